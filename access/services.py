"""Create, revoke and authenticate API keys."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from access.errors import InvalidOption, Unauthenticated, UnknownKey
from access.models import Account, ApiKey, all_scopes
from access.principal import Limits, Principal
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.loading_cache import LoadingCache
from scaling.replicas.backend import pools
from scaling.replicas.decision import PRIMARY
from scaling.replicas.read_context import unrecorded
from scaling.replicas.routing import repeated_elsewhere
from scaling.replicas.topology import TOPOLOGY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

logger = logging.getLogger(__name__)

ALPHABET = string.digits + string.ascii_letters
RANDOM_CHARS = 43  # 62 ** 43 is just above 2 ** 256.
CHECKSUM_CHARS = 6  # 62 ** 6 is above 2 ** 32.
KEY_TEXT = re.compile(rf"hr_[0-9A-Za-z]{{{RANDOM_CHARS + CHECKSUM_CHARS}}}", re.ASCII)
HINT_CHARS = 8

DEFAULT_ACCOUNT = "default"
MAX_EXPIRES_DAYS = 36_500
LAST_USED_EVERY = timedelta(minutes=5)
KNOWN_KEYS_MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key, and its secret, which exists nowhere else from now on."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """A key as it is cached for `KEY_CACHE_SECONDS`; `expires_at` is a Unix time."""

    principal: Principal
    expires_at: float | None
    is_revoked: bool


def create_key(
    *,
    name: str,
    account_name: str | None = None,
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
    max_concurrent: int | None = None,
    expires_days: int | None = None,
    scopes: Sequence[str] | None = None,
) -> CreatedKey:
    """Create a key, and its account if there is none of this name.

    A limit of None is the setting's (`DEFAULT_...`), 0 no limit; `expires_days` None or 0 is
    never. Raises InvalidOption with a sentence about the first bad one.
    """
    if not 0 <= (expires_days or 0) <= MAX_EXPIRES_DAYS:
        raise InvalidOption(f"expires days: must be from 0 to {MAX_EXPIRES_DAYS}.")
    key = ApiKey(
        name=name,
        scopes=all_scopes() if scopes is None else list(dict.fromkeys(scopes)),
        requests_per_minute=_or_default(requests_per_minute, settings.DEFAULT_REQUESTS_PER_MINUTE),
        tokens_per_day=_or_default(tokens_per_day, settings.DEFAULT_TOKENS_PER_DAY),
        max_concurrent=_or_default(max_concurrent, settings.DEFAULT_MAX_CONCURRENT),
        expires_at=timezone.now() + timedelta(days=expires_days) if expires_days else None,
    )
    account = Account(name=DEFAULT_ACCOUNT if account_name is None else account_name.strip())
    _check(account, label="account ", exclude={"id"})
    _check(key, exclude={"account", "digest", "hint"})
    secret = set_secret(key)
    with transaction.atomic():
        # Two commands at once may both find no account; the name's unique index settles it.
        key.account, _ = Account.objects.get_or_create(name=account.name)
        key.save(force_insert=True)
    return CreatedKey(key=key, secret=secret)


def set_secret(key: ApiKey) -> str:
    """Set an unsaved key's secret and return it: it can never be read again."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    secret = f"hr_{body}{_checksum(body)}"
    key.digest = hashlib.sha256(secret.encode()).hexdigest()
    key.hint = f"{secret[:HINT_CHARS]}…"
    return secret


def revoke_key(*, key_id: UUID) -> ApiKey:
    """Make a key useless everywhere within `KEY_CACHE_SECONDS`; a second time changes nothing.

    Raises UnknownKey.
    """
    ApiKey.objects.filter(pk=key_id, revoked_at=None).update(revoked_at=CLOCK.datetime())
    key = ApiKey.objects.select_related("account").filter(pk=key_id).first()
    if key is None:
        raise UnknownKey("There is no API key with this id.")
    forget_key(key)
    return key


def forget_key(key: ApiKey) -> None:
    """Drop a changed key from this process's cache; others reload it in `KEY_CACHE_SECONDS`."""
    KNOWN_KEYS.drop(key.digest)


def find_principal(secret: str) -> Principal:
    """Return the principal of this secret; raises Unauthenticated.

    One query at most each `KEY_CACHE_SECONDS`, key and process. Only a client that has a key learns
    that it is revoked or has expired.
    """
    return find_by_digest(digest_of(secret))


def digest_of(secret: str) -> str:
    """Return the digest that identifies a key; raises Unauthenticated for malformed ones."""
    digest = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
    # The checksum of a cached key need not be computed again.
    if digest in KNOWN_KEYS or _is_well_formed(secret):
        return digest
    raise Unauthenticated("This API key is not valid.", code="invalid_api_key")


def find_by_digest(digest: str) -> Principal:
    """Return the principal of the key with this digest, as `find_principal` does."""
    known = KNOWN_KEYS.get(digest)
    if known is None:
        raise Unauthenticated("This API key is not valid.", code="invalid_api_key")
    if known.is_revoked:
        raise Unauthenticated("This API key has been revoked.", code="revoked_api_key")
    if known.expires_at is not None and known.expires_at <= CLOCK.now():
        raise Unauthenticated("This API key has expired.", code="expired_api_key")
    return known.principal


def load_key(digest: str) -> KnownKey | None:
    """Return a key from the database, and record its use."""
    keys = ApiKey.objects.select_related("account").filter(digest=digest)
    try:
        key = repeated_elsewhere(keys.first)
        if key is None:
            return None
        if key.state == "active":
            record_use(key)
    finally:
        release_connections()
    return KnownKey(
        principal=Principal(
            key_id=key.id,
            account_id=key.account_id,
            account_name=key.account.name,
            name=key.name,
            scopes=frozenset(key.scopes),
            limits=Limits(
                requests_per_minute=key.requests_per_minute,
                tokens_per_day=key.tokens_per_day,
                max_concurrent=key.max_concurrent,
            ),
            notify_emails=key.account.notify_email_entries,
        ),
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
        is_revoked=key.revoked_at is not None,
    )


KNOWN_KEYS: LoadingCache[str, KnownKey] = LoadingCache(
    load=load_key,
    ttl_seconds=settings.KEY_CACHE_SECONDS,
    max_entries=KNOWN_KEYS_MAX_ENTRIES,
    name="api_keys",
    before_wait=release_connections,
)


def record_use(key: ApiKey) -> None:
    """Write the time of use unless another process did so lately; never fail a request for it."""
    now = CLOCK.datetime()
    due = now - LAST_USED_EVERY
    if key.last_used_at is not None and key.last_used_at > due:
        return
    is_due = Q(last_used_at=None) | Q(last_used_at__lte=due)
    # No request waits for the primary for this: the next load of the key is soon enough.
    if TOPOLOGY.primary.is_in_doubt:
        return
    if not pools.has_idle(PRIMARY):
        pools.grow(PRIMARY)
        return
    try:
        with unrecorded():
            ApiKey.objects.filter(is_due, pk=key.pk).update(last_used_at=now)
    except DatabaseError as error:
        # The database may take no writes just now; the key is good all the same.
        logger.warning("could not record the use of %s: %s", key.public_id, error)


def _is_well_formed(secret: str) -> bool:
    """Return whether a key's checksum is right, which spares a query for mistyped or made-up ones.

    The checksum is no secret and no protection; it also makes scanners of leaked secrets certain.
    """
    if not KEY_TEXT.fullmatch(secret):
        return False
    return secret[-CHECKSUM_CHARS:] == _checksum(secret[3:-CHECKSUM_CHARS])


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(digits)


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def _check(instance: Account | ApiKey, *, exclude: set[str], label: str = "") -> None:
    try:
        instance.clean_fields(exclude=exclude)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidOption(f"{label}{field.replace('_', ' ')}: {messages[0]}") from error
