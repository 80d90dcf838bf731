"""The stack's own passwords and keys: created once, stored in `STATE_DIR/secrets.json`."""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import write_private

ADMIN_USER = "admin"


def _secret(length: int) -> Callable[[], str]:
    return lambda: secrets.token_urlsafe(length)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Everything secret that a stack needs; the demo key is known once the database has it."""

    secret_key: str = field(default_factory=_secret(50))
    postgres_password: str = field(default_factory=_secret(24))
    redis_password: str = field(default_factory=_secret(24))
    admin_password: str = field(default_factory=_secret(9))
    demo_key_id: str = ""
    demo_key: str = ""


def load(path: Path) -> Credentials:
    """Return the stored credentials, created when there are none yet."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    except (OSError, ValueError) as error:
        raise ClusterError(f"cannot read {path}: {error}") from error
    credentials = Credentials(**stored)
    if asdict(credentials) != stored:
        save(path, credentials)
    return credentials


def save(path: Path, credentials: Credentials) -> None:
    """Write the credentials for their owner alone."""
    write_private(path, json.dumps(asdict(credentials), indent=2) + "\n")


def save_demo_key(path: Path, *, key_id: str, key: str) -> None:
    """Remember the demo key, which the database stores only as a hash."""
    save(path, replace(load(path), demo_key_id=key_id, demo_key=key))
