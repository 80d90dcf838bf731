"""The caller of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a key; 0 is no limit."""

    requests_per_minute: int = 0
    tokens_per_day: int = 0
    max_concurrent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The key that a request was made with, and the account it belongs to."""

    key_id: UUID
    account_id: UUID
    account_name: str
    name: str
    scopes: frozenset[str]
    limits: Limits
    # Addresses and domains to which the account's jobs may send e-mail.
    notify_emails: tuple[str, ...] = ()

    # REST framework's IsAuthenticated reads it of the user.
    is_authenticated: ClassVar[bool] = True
