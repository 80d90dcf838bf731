#!/usr/bin/env python3
"""Create the secrets of a stack: `make_secrets.py DIRECTORY [--give-away]`.

What is there stays, so it may be run at every start. Each part has a directory of its own; with
`--give-away` its files belong to the user that reads them in the part's container. Compose runs
this by itself; for Swarm, run it once.
"""

import argparse
import os
import secrets
from pathlib import Path

# Who reads them in the images.
OWNERS = {"app": 10001, "postgres": 999, "redis": 999, "redis-cache": 999, "grafana": 472}


def main() -> None:
    """Make what is missing, and write what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--give-away", action="store_true")
    options = parser.parse_args()
    root: Path = options.directory
    os.umask(0o077)
    for part in OWNERS:
        (root / part).mkdir(parents=True, exist_ok=True)
    made = {
        name: keep(root / name)
        for name in (
            "app/secret_key",
            "postgres/superuser_password",
            "postgres/headrace_password",
            "postgres/replicator_password",
            "redis/password",
            "redis-cache/password",
            "grafana/admin_password",
        )
    }
    login = f"headrace:{made['postgres/headrace_password']}"
    redis = f"redis://:{made['redis/password']}@redis:6379"
    write(root / "app/database_url", f"postgresql://{login}@postgres:5432/headrace")
    write(
        root / "app/database_replica_urls",
        f"replica=postgresql://{login}@postgres-replica:5432/headrace",
    )
    cache = f"redis://:{made['redis-cache/password']}@redis-cache:6379"
    write(root / "app/cache_url", f"{cache}/0")
    write(root / "app/redis_url", f"{redis}/0")
    write(root / "app/broker_url", f"{redis}/1")
    # The local model needs none, but its client wants one.
    write(root / "app/llm_api_key", os.environ.get("LLM_API_KEY") or "none")
    if options.give_away:
        for part, owner in OWNERS.items():
            for path in (root / part, *(root / part).iterdir()):
                os.chown(path, owner, owner)


def keep(path: Path) -> str:
    """Return a secret, made if there is none."""
    if not path.exists():
        write(path, secrets.token_urlsafe(48))
    return path.read_text(encoding="ascii")


def write(path: Path, text: str) -> None:
    """Replace a file in one step, if it has another text: processes watch some of them."""
    if path.exists() and path.read_text(encoding="ascii") == text:
        return
    new = path.with_suffix(".new")
    new.write_text(text, encoding="ascii")
    new.replace(path)


if __name__ == "__main__":
    main()
