"""Follow DATABASE_URL_FILE and DATABASE_REPLICA_URLS_FILE while the process runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from scaling.replicas.backend.pools import close_pool
from scaling.replicas.decision import PRIMARY
from scaling.replicas.topology import TOPOLOGY

logger = logging.getLogger(__name__)

ADDRESS = ("HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")

# The settings of servers that are gone. A greenlet with an open connection holds its wrappers, and
# with them these very dicts: a name that comes back must be the same dict again, or the next pool
# of that name may be made for the old address.
_gone: dict[str, dict[str, Any]] = {}


class Addresses:
    """The servers' addresses as they were last read."""

    def __init__(self) -> None:
        self._seen = self._stamps()
        TOPOLOGY.set_replicas([alias for alias in connections.settings if alias != PRIMARY])

    def tick(self) -> set[str]:
        """Read the files again if they have changed; return the servers that are new or moved."""
        stamps = self._stamps()
        if stamps == self._seen:
            return set()
        try:
            databases = settings.READ_DATABASES()
        # A text in another encoding raises ValueError.
        except (ImproperlyConfigured, ValueError) as error:
            # Logged once; the servers of before stay.
            logger.error("the servers' addresses are not changed: %s", error)
            databases = None
        self._seen = stamps
        return apply(databases) if databases is not None else set()

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in settings.DATABASE_FILES]


def apply(databases: dict[str, dict[str, Any]]) -> set[str]:
    """Make Django use these servers from the next connection on; return the new or moved ones."""
    moved = set()
    for alias in [alias for alias in connections.settings if alias not in databases]:
        _gone[alias] = connections.settings.pop(alias)
        close_pool(alias)
        logger.warning("%s is removed", alias)
    for alias, entry in databases.items():
        present = connections.settings.get(alias)
        if present is not None and all(present.get(key) == entry.get(key) for key in ADDRESS):
            continue
        complete = connections.configure_settings({PRIMARY: dict(entry)})[PRIMARY]
        # Each greenlet's wrapper holds this very dict.
        held = _gone.pop(alias, {}) if present is None else present
        held.clear()
        held.update(complete)
        connections.settings[alias] = held
        close_pool(alias)
        moved.add(alias)
        logger.warning("%s is now at %s:%s", alias, entry.get("HOST"), entry.get("PORT"))
    TOPOLOGY.set_replicas([alias for alias in databases if alias != PRIMARY])
    return moved


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
