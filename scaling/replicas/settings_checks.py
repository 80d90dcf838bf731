"""Find the faults of the servers' settings, without a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from django.conf import settings
from django.db import connections

from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import SILENT_TICKS
from scaling.replicas.report import address_of


class Level(IntEnum):
    """How bad a finding is; the greatest is the exit code of `replicas check`."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, and its mend; `subject` is a server's name or `settings`."""

    level: Level
    # As Django's system checks number theirs.
    id: str
    subject: str
    text: str
    advice: str


def of_settings() -> Iterator[Finding]:
    """Yield the faults of the settings of this process."""
    yield from _pools()
    if not settings.HAS_REPLICAS:
        return
    yield from _times()
    yield from _addresses()


def _pools() -> Iterator[Finding]:
    for name, pool in (("DATABASE", settings.DATABASE_POOL), ("REPLICA", settings.REPLICA_POOL)):
        # A maximum of 0 is no pool.
        if 0 < pool["max_size"] < pool["min_size"]:
            yield Finding(
                level=Level.ERROR,
                id="scaling.E001",
                subject="settings",
                text=f"{name}_POOL_MIN={pool['min_size']} is more than {name}_POOL_MAX="
                f"{pool['max_size']}: no connection can be made.",
                advice=f"Set {name}_POOL_MIN to at most {name}_POOL_MAX.",
            )


def _times() -> Iterator[Finding]:
    stored, lag = settings.POSITION_SECONDS, settings.REPLICA_MAX_LAG_SECONDS
    if stored < 2 * lag:
        yield Finding(
            level=Level.ERROR,
            id="scaling.E002",
            subject="settings",
            text=f"POSITION_SECONDS={stored:g} is less than twice REPLICA_MAX_LAG_SECONDS={lag:g}:"
            " a write may be forgotten before every replica shows it.",
            advice=f"Set POSITION_SECONDS to {2 * lag:g} or more.",
        )
    noticed = SILENT_TICKS * settings.REPLICA_CHECK_SECONDS
    if noticed > 1:
        yield Finding(
            level=Level.WARNING,
            id="scaling.W001",
            subject="settings",
            text=f"An unavailable server is detected after {noticed:g} s only.",
            advice="Set REPLICA_CHECK_SECONDS to 0.3 or less.",
        )


def _addresses() -> Iterator[Finding]:
    primary = connections.settings[PRIMARY]
    attributes = str(primary.get("OPTIONS", {}).get("target_session_attrs", "any"))
    if "," in str(primary.get("HOST", "")) and attributes not in ("read-write", "primary"):
        yield Finding(
            level=Level.ERROR,
            id="scaling.E003",
            subject="settings",
            text="DATABASE_URL names several hosts, and the first that answers may be a replica.",
            advice="Add target_session_attrs=read-write to DATABASE_URL.",
        )
    counted = Counter(address_of(name) for name in connections.settings)
    for address, count in counted.items():
        if count > 1:
            names = [name for name in connections.settings if address_of(name) == address]
            yield Finding(
                level=Level.WARNING,
                id="scaling.W002",
                subject="settings",
                text=f"{', '.join(names)} have one address, {address}.",
                advice="Name each server of DATABASE_URL and DATABASE_REPLICA_URLS once.",
            )
