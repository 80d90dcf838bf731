"""The models of chains, which staff configure, and of conversations."""

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from django.db import models, transaction

from access.models import Account
from config.api.ids import new_uuid
from scaling.replicas.read_scopes import ACCOUNT, SHARED
from scaling.response_cache.policy import CacheMode, CacheScope

MAX_CACHE_SECONDS = 366 * 86_400


class Chain(models.Model):
    """A runnable with its configuration, called by its slug.

    Invariant: `version` rises with every saved change, so a (primary key, version) pair means one
    configuration for ever. A slug may come back with another chain. `QuerySet.update()` bypasses
    this; use `save()`.
    """

    read_scope = SHARED

    slug = models.SlugField(
        max_length=64, unique=True, help_text="Clients send this as `model`, or in /chains/SLUG/."
    )
    runnable = models.CharField(
        max_length=64, help_text="A name from the setting CHAIN_RUNNABLES or a built-in one."
    )
    model = models.CharField(
        max_length=200,
        blank=True,
        help_text="As init_chat_model names it, such as openai:gpt-5-mini. Empty: LLM_MODEL.",
    )
    base_url = models.CharField(
        max_length=500,
        blank=True,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="An OpenAI-compatible server. Empty: LLM_BASE_URL, or the provider's own.",
    )
    system_prompt = models.TextField(blank=True, max_length=100_000)
    temperature = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    max_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    parameters = models.JSONField(
        default=dict,
        blank=True,
        help_text='More arguments of the model\'s LangChain class, such as {"top_p": 0.9}.',
    )
    timeout_seconds = models.PositiveIntegerField(
        default=120,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text="Time limit of an answer, fallbacks included.",
    )
    fallback_models = models.JSONField(
        default=list,
        blank=True,
        help_text='Tried in order when the model fails, such as ["openai:gpt-5-nano"].',
    )
    max_running_jobs = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Background jobs of this chain at a time. 0 is no limit."
    )
    cache_mode = models.CharField(
        max_length=16,
        default=CacheMode.OFF,
        db_default=CacheMode.OFF,
        choices=[
            (CacheMode.OFF, "off"),
            (CacheMode.DETERMINISTIC, "requests with temperature 0 or a seed"),
            (CacheMode.ALWAYS, "all requests"),
        ],
        help_text="Which responses are cached. Turn off for chains that fetch changing data or have"
        " side effects.",
    )
    cache_scope = models.CharField(
        max_length=16,
        default=CacheScope.ACCOUNT,
        db_default=CacheScope.ACCOUNT,
        choices=[(CacheScope.ACCOUNT, "the same account"), (CacheScope.SHARED, "all accounts")],
        help_text="Which requests may share a cached response.",
    )
    cache_ttl_seconds = models.PositiveIntegerField(
        default=3600,
        db_default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CACHE_SECONDS)],
        help_text="How long a cached response is fresh.",
    )
    cache_stale_seconds = models.PositiveIntegerField(
        default=0,
        db_default=0,
        validators=[MaxValueValidator(MAX_CACHE_SECONDS)],
        help_text="How long after that it is still served while one request revalidates it.",
    )
    cache_stale_if_error_seconds = models.PositiveIntegerField(
        default=0,
        db_default=0,
        validators=[MaxValueValidator(MAX_CACHE_SECONDS)],
        help_text="How long after that it is served instead of a provider's failure.",
    )
    cache_model_calls = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Also cache single model calls, so that equal steps of different"
        " requests are paid once.",
    )
    is_enabled = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save as the next version; two saves at once get two versions."""
        with transaction.atomic():
            if not self._state.adding:
                current = Chain.objects.select_for_update().values("version").get(pk=self.pk)
                self.version = current["version"] + 1
                if (fields := kwargs.get("update_fields")) is not None:
                    kwargs["update_fields"] = {*fields, "version"}
            super().save(*args, **kwargs)


class Conversation(models.Model):
    """A thread of messages with one chain, owned by an account.

    Invariant: only the holder of the lease (`lease_token`, until `lease_until`) adds messages, so a
    question and its answer are never torn apart by another question.
    """

    read_scope = ACCOUNT

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="conversations")
    chain = models.ForeignKey(Chain, on_delete=models.PROTECT, related_name="conversations")
    metadata = models.JSONField(default=dict, blank=True)
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["account", "-id"], name="conversation_by_account")]

    def __str__(self) -> str:
        return f"conv_{self.id.hex}"


class Message(models.Model):
    """One turn of a conversation.

    Invariant: `position` counts up from 1 without a gap. Ids are time-ordered too, but by the
    clock of the node that made them, and two nodes' clocks may disagree.
    """

    read_scope = ACCOUNT

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    class Status(models.TextChoices):
        COMPLETED = "completed"
        INCOMPLETE = "incomplete"

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    position = models.PositiveIntegerField()
    role = models.CharField(max_length=16, choices=Role.choices)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.COMPLETED)
    content = models.TextField()
    # Why an incomplete reply stopped: a code of the API's errors.
    error_code = models.CharField(max_length=64, blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["conversation", "position"], name="message_position_in_conversation"
            )
        ]

    def __str__(self) -> str:
        return f"msg_{self.id.hex}"
