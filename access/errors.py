"""Errors of access: authentication, scopes, limits."""

from config.api.errors import ApiError

LIMIT_CODES = {
    "requests_per_minute": "requests_per_minute_exceeded",
    "tokens_per_day": "tokens_per_day_exceeded",
    "max_concurrent": "too_many_concurrent_requests",
}
LIMIT_MESSAGES = {
    "requests_per_minute": "This API key may make {allowed} requests a minute.",
    "tokens_per_day": "This API key has used its {allowed} tokens of today (UTC).",
    "max_concurrent": "This API key may have {allowed} requests running at once.",
}

# Counted by each process (access.limits.budgets); `{holder}` may have so many at once.
BUDGET_CODES = {"streams": "too_many_streams"}
BUDGET_MESSAGES = {"streams": "{holder} may have {allowed} streams open at once ({setting})."}
BUDGET_WAIT_SECONDS = 1.0

# Stored by an account (access.limits.stored).
STORED_CODES = {
    "conversations": "too_many_conversations",
    "messages": "too_many_messages",
    "jobs": "too_many_jobs",
    "file_bytes": "too_many_file_bytes",
    "idempotency_keys": "too_many_idempotency_keys",
}
STORED_MESSAGES = {
    "conversations": "This account has {allowed} conversations, as many as it may; delete some",
    "messages": "This conversation has as many messages as it may, {allowed}; start another",
    "jobs": "This account has {allowed} jobs, with those that ended, as many as it may; old ones"
    " are removed JOB_RETENTION_DAYS after their end",
    "file_bytes": "This account's documents take {allowed} bytes, as many as they may; those of old"
    " jobs are removed JOB_RETENTION_DAYS after their end",
    "idempotency_keys": "This account has used {allowed} idempotency keys, as many as it may in"
    " IDEMPOTENCY_HOURS",
}


class Unauthenticated(ApiError):
    """The request carries no usable key."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(401, message, code=code, headers={"WWW-Authenticate": "Bearer"})


class MissingScope(ApiError):
    """The key is valid, but lacks the scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(403, f"This API key lacks the scope {scope!r}.", code="missing_scope")


class LimitExceeded(ApiError):
    """The key has used up `limit`, one of Limits' fields, of which `allowed` is the size."""

    def __init__(
        self,
        limit: str,
        *,
        allowed: int,
        retry_after_seconds: float,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            429,
            LIMIT_MESSAGES[limit].format(allowed=allowed),
            code=LIMIT_CODES[limit],
            retry_after_seconds=retry_after_seconds,
            headers=headers,
        )
        self.limit = limit


class TooManyLogins(ApiError):
    """Too many logins of this user or from this address have failed."""

    def __init__(self, *, retry_after_seconds: float) -> None:
        super().__init__(
            429,
            "Too many logins have failed.",
            code="too_many_logins",
            retry_after_seconds=retry_after_seconds,
        )


class PasswordsBusy(ApiError):
    """No thread was free to hash a password within PASSWORD_WAIT_SECONDS."""

    def __init__(self, *, retry_after_seconds: float) -> None:
        super().__init__(
            503,
            "Too many passwords are being checked.",
            code="passwords_busy",
            retry_after_seconds=retry_after_seconds,
        )


class BudgetExceeded(ApiError):
    """A key or an account holds all of its budget of a node; `setting` has the number."""

    def __init__(self, budget: str, *, scope: str, allowed: int, setting: str) -> None:
        holder = {"key": "This API key", "account": "This account"}[scope]
        super().__init__(
            429,
            BUDGET_MESSAGES[budget].format(holder=holder, allowed=allowed, setting=setting),
            code=BUDGET_CODES[budget],
            retry_after_seconds=BUDGET_WAIT_SECONDS,
        )


class NodeBudgetExceeded(ApiError):
    """All callers of a node together hold its budget; another node may have more."""

    def __init__(self, budget: str, *, allowed: int, setting: str) -> None:
        super().__init__(
            503,
            BUDGET_MESSAGES[budget].format(holder="A node", allowed=allowed, setting=setting),
            code=BUDGET_CODES[budget],
            retry_after_seconds=BUDGET_WAIT_SECONDS,
        )


class StoredExceeded(ApiError):
    """An account stores as many of a kind as it may; `setting` has the number."""

    def __init__(self, kind: str, *, allowed: int, setting: str) -> None:
        super().__init__(
            429,
            f"{STORED_MESSAGES[kind].format(allowed=allowed)} ({setting}).",
            code=STORED_CODES[kind],
            should_retry=False,
        )


class AccessError(Exception):
    """Base of the errors in commands and forms of staff; the message is for them."""


class InvalidOption(AccessError):
    """A key cannot be made with these options."""


class UnknownKey(AccessError):
    """There is no key with this id."""
