"""Staff's view of chains and conversations."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest

from chat.chain_config import config_of
from chat.models import Chain, Conversation, Message
from config.errors import ApiError
from config.json_api import loads


class StrictJsonField(forms.JSONField):
    """JSON as the API takes it: not too deep, and nothing that PostgreSQL could not store."""

    def to_python(self, value: Any) -> Any:
        """Refuse what the API would refuse, with its reason."""
        if isinstance(value, str) and value.strip():
            try:
                loads(value.encode())
            except (ApiError, UnicodeEncodeError) as error:
                raise forms.ValidationError(str(error)) from error
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Show a value that was refused as it was typed."""
        try:
            self.to_python(data)
        except forms.ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


class ChainForm(forms.ModelForm[Chain]):
    """A chain's form, which refuses what could not be built and says why."""

    class Meta:
        model = Chain
        fields = [
            "slug",
            "runnable",
            "is_enabled",
            "model",
            "base_url",
            "fallback_models",
            "system_prompt",
            "temperature",
            "max_tokens",
            "parameters",
            "timeout_seconds",
            "max_running_jobs",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted(settings.CHAIN_RUNNABLES)
        self.fields["runnable"] = forms.ChoiceField(choices=[(name, name) for name in names])
        for name in ("parameters", "fallback_models"):
            help_text = self.fields[name].help_text
            self.fields[name] = StrictJsonField(required=False, help_text=help_text)
        self.fields["model"].widget.attrs["placeholder"] = settings.LLM_MODEL
        self.fields["base_url"].widget.attrs["placeholder"] = settings.LLM_BASE_URL

    def clean_parameters(self) -> dict[str, Any]:
        """Take an empty field as no parameters; refuse what is no object."""
        value = self.cleaned_data["parameters"]
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            raise forms.ValidationError('Write a JSON object, such as {"top_p": 0.9}.')
        return value

    def clean_fallback_models(self) -> list[str]:
        """Take an empty field as no fallbacks; refuse what is no list of names."""
        value = self.cleaned_data["fallback_models"]
        if value in (None, ""):
            return []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise forms.ValidationError('Write a JSON list, such as ["openai:gpt-5-nano"].')
        return value

    def _post_clean(self) -> None:
        """Build the chain once its fields are right; nothing is called."""
        super()._post_clean()  # type: ignore[misc]  # django-stubs leaves this hook out
        if self.errors:
            return
        # LangChain takes a second to import, and every command imports the admin.
        from chat.registry import find_problems  # noqa: PLC0415

        for problem in find_problems(config_of(self.instance)):
            self.add_error(None, problem)


@admin.register(Chain)
class ChainAdmin(admin.ModelAdmin[Chain]):
    """Chains, each change a new version."""

    form = ChainForm
    list_display = ["slug", "runnable", "model_or_default", "version", "is_enabled", "updated_at"]
    list_filter = ["is_enabled", "runnable"]
    search_fields = ["slug", "model"]
    readonly_fields = ["version", "created_at", "updated_at"]

    @admin.display(description="model", ordering="model")
    def model_or_default(self, chain: Chain) -> str:
        """Show the model that is really called."""
        return config_of(chain).model_name


class MessageInline(admin.TabularInline[Message, Conversation]):
    """A conversation's last messages, to read."""

    model = Message
    fields = ("position", "role", "status", "content", "error_code", "created_at")
    readonly_fields = fields
    ordering = ["position"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        """Messages come from the API alone."""
        return False


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin[Conversation]):
    """Conversations, to read and to delete."""

    list_display = ["__str__", "account", "chain", "message_count", "created_at", "updated_at"]
    list_filter = ["chain"]
    list_select_related = ["account", "chain"]
    show_full_result_count = False
    search_fields = ["=id", "account__name"]
    readonly_fields = ["id", "account", "chain", "metadata", "created_at", "updated_at"]
    inlines = [MessageInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """Count the messages of the page's rows in the same query."""
        return super().get_queryset(request).annotate(_messages=Count("messages"))

    @admin.display(description="messages")
    def message_count(self, conversation: Conversation) -> int:
        """Show how many messages there are."""
        return conversation._messages  # type: ignore[attr-defined, no-any-return]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Conversations come from the API alone."""
        return False
