"""Jobs and their attempts, the workers that run them, and the deliveries of notifications.

PostgreSQL is the truth about jobs; a broker only wakes workers (docs/adr/0007).
"""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from access.models import DEFAULT_JOB_PRIORITY, Account, ApiKey
from chat.models import Chain
from config.api.ids import new_uuid
from scaling.replicas.read_scopes import ACCOUNT

MAX_PRIORITY = 9
DEFAULT_PRIORITY = 5
MAX_ATTEMPTS_LIMIT = 20


class Worker(models.Model):
    """A worker process, from its start to its end.

    Invariant: the jobs of a worker are its own as long as `lease_until`, by the database's clock,
    lies ahead. Its heartbeat moves that on; a reaper ends a worker whose lease has run out.
    """

    class State(models.TextChoices):
        READY = "ready"
        DRAINING = "draining"
        GONE = "gone"

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=100)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=State.choices, default=State.READY)
    concurrency = models.PositiveIntegerField()
    running = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    heartbeat_at = models.DateTimeField(db_default=Now())
    lease_until = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["lease_until"], condition=~Q(state="gone"), name="worker_by_lease"
            ),
            models.Index(fields=["ended_at"], name="worker_by_end"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.host}, process {self.pid})"


class Job(models.Model):
    """A call of a chain in the background.

    Invariants: `status` moves from queued to running to one of the three ends, and back to queued
    only by a retry or by the loss of the attempt. Only the holder of `lease`, which is the id
    of the running attempt, writes results, progress and events.
    """

    read_scope = ACCOUNT

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ENDS: ClassVar = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="jobs", db_index=False
    )
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    chain = models.ForeignKey(Chain, on_delete=models.PROTECT, related_name="jobs")
    # Which API made it: jobs or responses.
    api = models.CharField(max_length=16, default="jobs")
    request_id = models.CharField(max_length=128, blank=True)

    input = models.JSONField()
    # The request's own parameters, where the API returns them.
    request = models.JSONField(default=dict)
    metadata = models.JSONField(default=dict, blank=True)
    file = models.FileField(max_length=255, upload_to="jobs/%Y/%m/%d", blank=True)
    file_name = models.CharField(max_length=255, blank=True)
    file_bytes = models.PositiveIntegerField(null=True, blank=True)
    file_pages = models.PositiveIntegerField(null=True, blank=True)
    # Pages of which something was not read: pictures, damaged content, unnamed characters.
    file_pages_incomplete = models.PositiveIntegerField(null=True, blank=True)
    webhook_url = models.CharField(max_length=2000, blank=True)
    notify_email = models.EmailField(blank=True)

    status = models.CharField(max_length=16, choices=Status.choices, default=Status.QUEUED)
    priority = models.PositiveSmallIntegerField(
        default=DEFAULT_PRIORITY, validators=[MaxValueValidator(MAX_PRIORITY)]
    )
    # Its account's Account.job_priority when it began to wait.
    account_priority = models.PositiveSmallIntegerField(
        default=DEFAULT_JOB_PRIORITY, db_default=DEFAULT_JOB_PRIORITY, editable=False
    )
    # A turn of its account among the waiting jobs of its `account_priority`
    # (jobs/queue/fair_queue.py).
    rank = models.BigIntegerField(default=0)
    # False while a queued job waits for `run_at`.
    is_due = models.BooleanField(default=True)
    run_at = models.DateTimeField(null=True, blank=True)
    timeout_seconds = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    max_attempts = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(MAX_ATTEMPTS_LIMIT)]
    )
    # Attempts that count against `max_attempts`; one that was released does not.
    attempts = models.PositiveSmallIntegerField(default=0)
    # How many of them ended with their worker's death.
    losses = models.PositiveSmallIntegerField(default=0)
    lease = models.UUIDField(null=True, blank=True, editable=False)
    worker = models.ForeignKey(
        Worker,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="jobs",
        db_index=False,
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    progress_completed = models.PositiveIntegerField(null=True, blank=True)
    progress_total = models.PositiveIntegerField(null=True, blank=True)
    progress_message = models.CharField(max_length=500, blank=True)
    # The number of the last event.
    last_event = models.PositiveIntegerField(default=0)
    output = models.JSONField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["-account_priority", "rank", "id"],
                condition=Q(status="queued", is_due=True),
                name="job_by_turn",
            ),
            models.Index(
                fields=["account", "account_priority", "-rank"],
                condition=Q(status="queued", is_due=True),
                name="job_turn_of_account",
            ),
            models.Index(
                fields=["account", "account_priority", "-priority", "id"],
                condition=Q(status="queued", is_due=True),
                name="job_best_of_account",
            ),
            models.Index(
                fields=["run_at"],
                condition=Q(status="queued", is_due=False),
                name="job_scheduled",
            ),
            models.Index(fields=["worker"], condition=Q(status="running"), name="job_running"),
            models.Index(fields=["account", "-id"], name="job_by_account"),
            models.Index(fields=["account", "status", "-id"], name="job_by_account_status"),
            models.Index(fields=["status", "-id"], name="job_by_status"),
            models.Index(
                fields=["account", "file_bytes"],
                condition=Q(file_bytes__isnull=False),
                name="job_file_bytes_of_account",
            ),
            models.Index(fields=["finished_at"], name="job_by_end"),
        ]

    def __str__(self) -> str:
        return f"job_{self.id.hex}"

    @property
    def is_over(self) -> bool:
        """Whether the job is in one of its final states."""
        return self.status in self.ENDS


class Attempt(models.Model):
    """One execution of a job by one worker; its id is the job's lease while it runs."""

    read_scope = ACCOUNT

    class Outcome(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        TIMED_OUT = "timed_out", "timed out"
        # The worker died, or was frozen past its lease.
        LOST = "lost"
        # The worker released the job, or staff requeued it; not counted.
        RELEASED = "released"
        # The key has used the tokens of its day; not counted.
        DEFERRED = "deferred"

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="attempt_rows")
    number = models.PositiveSmallIntegerField()
    worker = models.ForeignKey(
        Worker, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    worker_name = models.CharField(max_length=100)
    outcome = models.CharField(max_length=16, choices=Outcome.choices, default=Outcome.RUNNING)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    # For staff alone: it may quote the input.
    traceback = models.TextField(blank=True)
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["ended_at"], name="attempt_by_end")]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class Event(models.Model):
    """One event of a job, for its followers; `seq` counts up from 1."""

    read_scope = ACCOUNT

    class Kind(models.TextChoices):
        STATUS = "status"
        PROGRESS = "progress"
        TOKENS = "tokens"
        DONE = "done"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind.choices)
    data = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "seq"], name="event_seq_of_job")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.seq}"


class ModelCall(models.Model):
    """An answered model call of a job, so that a later attempt need not pay for it again."""

    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="model_calls", db_index=False
    )
    # Digest of the model, the messages and the options, and the number of equal calls before.
    key = models.CharField(max_length=64)
    answer = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "key"], name="model_call_of_job")
        ]

    def __str__(self) -> str:
        return self.key


class WebhookSecret(models.Model):
    """The secret of an account's webhook signatures.

    Only a salt is stored: the secret is derived from it and SECRET_KEY
    (jobs/notifications/secrets.py). A replaced secret signs as well until `expires_at`.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="webhook_secrets")
    salt = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"webhook secret of {self.account_id}"


class Delivery(models.Model):
    """The notification of one receiver that a job has finished, delivered at least once.

    Invariant: only the dispatcher that holds `lease` makes an attempt, until `lease_until` by the
    database's clock. `due_at` is the time of the next attempt.
    """

    read_scope = ACCOUNT

    class Channel(models.TextChoices):
        WEBHOOK = "webhook"
        EMAIL = "email"

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up", "given up"

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="deliveries")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+", db_index=False)
    channel = models.CharField(max_length=16, choices=Channel.choices)
    event_type = models.CharField(max_length=32)
    target = models.CharField(max_length=2000)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    # No attempt is made after this.
    give_up_at = models.DateTimeField()
    lease = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=Q(status="pending"), name="delivery_due"),
            models.Index(
                fields=["-job", "-id"], condition=Q(status="given_up"), name="delivery_given_up"
            ),
            models.Index(
                fields=["delivered_at"], condition=Q(channel="email"), name="email_by_time"
            ),
            models.Index(
                fields=["lease_until"],
                condition=Q(channel="email", status="pending"),
                name="email_under_way",
            ),
        ]

    def __str__(self) -> str:
        return f"evt_{self.id.hex}"


class DeliveryAttempt(models.Model):
    """One attempt at a delivery."""

    read_scope = ACCOUNT

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempt_rows")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    duration_seconds = models.FloatField()
    is_delivered = models.BooleanField()
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    # Why it failed, and the beginning of the receiver's response.
    error = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return "delivered" if self.is_delivered else self.error
