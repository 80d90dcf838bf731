"""Accounts and their API keys."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, validate_email
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from config.api.ids import new_uuid, to_public_id
from scaling.replicas.read_scopes import SHARED

# The scopes of keys. An app that adds a scope adds it here.
SCOPES = {
    "chat": "Call chains and hold conversations",
    "jobs": "Run chains in the background",
}

# Ten million a minute is what one HAProxy passes on; above it the emission interval is
# too short for the microseconds that the limiter counts in.
MAX_REQUESTS_PER_MINUTE = 10_000_000
MAX_TOKENS_PER_DAY = 10**15
MAX_CONCURRENT = 1_000_000
MAX_JOB_PRIORITY = 9
DEFAULT_JOB_PRIORITY = 5


def validate_name(value: str) -> None:
    """Refuse what would harm a terminal or a log: control characters, and invisible ones."""
    if not value.isprintable():
        raise ValidationError("A name may hold printable characters only.")


def validate_notify_emails(value: str) -> None:
    """Refuse what is neither an address nor a domain; `*` allows every address."""
    for entry in value.split():
        name, _, domain = entry.rpartition("@")
        try:
            if entry != "*":
                validate_email(f"{name or 'anybody'}@{domain}")
        except ValidationError as error:
            raise ValidationError(f"{entry!r} is not an address, a domain or '*'.") from error


def validate_scopes(value: list[str]) -> None:
    """Refuse scopes that do not exist."""
    if unknown := sorted(set(value) - set(SCOPES)):
        raise ValidationError(f"{unknown[0]!r} is not a scope; scopes are {', '.join(SCOPES)}.")


def all_scopes() -> list[str]:
    """Return every scope, a new key's default."""
    return list(SCOPES)


class Account(models.Model):
    """The owner of keys, and of everything that is created with them."""

    read_scope = SHARED

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=100, unique=True, validators=[validate_name])
    max_running_jobs = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Background jobs at a time. 0: JOB_ACCOUNT_CONCURRENCY."
    )
    job_priority = models.PositiveSmallIntegerField(
        default=DEFAULT_JOB_PRIORITY,
        db_default=DEFAULT_JOB_PRIORITY,
        validators=[MaxValueValidator(MAX_JOB_PRIORITY)],
        help_text="0 to 9. Its background jobs wait for accounts with a higher one. Its own"
        " priorities rank its jobs among themselves. Applies to jobs queued from now on.",
    )
    notify_emails = models.TextField(
        "Addresses for e-mail",
        blank=True,
        default="",
        db_default="",
        max_length=4000,
        validators=[validate_notify_emails],
        help_text="Who may receive e-mail about its jobs, in addition to NOTIFY_EMAIL_ALLOWED:"
        " addresses and domains, one a line. '*' allows all.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def notify_email_entries(self) -> tuple[str, ...]:
        """The addresses and domains of `notify_emails`."""
        return tuple(self.notify_emails.split())


class ApiKey(models.Model):
    """A secret that clients authenticate with, and its scopes and limits.

    Only `digest` of the secret is stored: plain SHA-256, and neither salted nor slow. Slow hashes
    protect secrets that people choose, by making each guess expensive; a key has 256 random bits,
    which no guessing reaches, and a slow hash would cost every request its milliseconds. `hint` is
    the secret's beginning, to recognise it by.
    """

    read_scope = SHARED

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100, validators=[validate_name])
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=16, editable=False)
    scopes = ArrayField(
        models.CharField(max_length=32),
        default=all_scopes,
        validators=[validate_scopes],
        error_messages={"blank": "A key needs at least one scope."},
    )
    requests_per_minute = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(MAX_REQUESTS_PER_MINUTE)],
        help_text="0 is no limit.",
    )
    tokens_per_day = models.PositiveBigIntegerField(
        default=0,
        validators=[MaxValueValidator(MAX_TOKENS_PER_DAY)],
        help_text="0 is no limit. The day is UTC's.",
    )
    max_concurrent = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(MAX_CONCURRENT)],
        help_text="0 is no limit.",
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty is never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "API key"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"

    @property
    def public_id(self) -> str:
        """The id in responses and commands."""
        return to_public_id("key", self.id)

    @property
    def state(self) -> str:
        """One of active, expired, revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "active"

    def clean_fields(self, exclude: Any = None) -> None:
        """Strip the name first, so that a name of spaces is an empty one."""
        self.name = self.name.strip()
        super().clean_fields(exclude=exclude)


class IdempotencyKey(models.Model):
    """The response to a request with an `Idempotency-Key`, for those that repeat it.

    Invariant: one row an account and key. While `is_done` is false, the request that made it is
    under way, until `lease_until` at the latest; then another may take the key.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    # Digest of the method, the address and the body.
    fingerprint = models.CharField(max_length=64)
    is_done = models.BooleanField(default=False)
    token = models.UUIDField(default=new_uuid)
    lease_until = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="idempotency_key_of_account")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return self.key
