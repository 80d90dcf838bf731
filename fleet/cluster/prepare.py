"""Fill the database of a new stack: schema, chains, an admin and a demo key.

`bring_up` runs this as a process of its own, because its settings must name the stack's database.
It loads Django at once, and begins at the signal that the database is there. Everything here may
be run again at any time.
"""

import json
import sys
from io import StringIO
from typing import Any

import django
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from fleet.cluster import credentials
from fleet.cluster.paths import Layout


def main() -> None:
    """Load Django, wait for a line on standard input, and prepare the database."""
    django.setup()
    if not sys.stdin.readline():
        return
    migrate()
    call_command("chains", "load")
    create_admin()
    create_demo_key()


def migrate() -> None:
    """Apply the migrations that are missing; looking is much quicker than running `migrate`."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=1)


def create_admin() -> None:
    """Create the admin user; the changed password of an existing one stays."""
    users = get_user_model().objects
    if not users.filter(username=credentials.ADMIN_USER).exists():
        stored = credentials.load(_layout().secrets_file)
        users.create_superuser(credentials.ADMIN_USER, password=stored.admin_password)


def create_demo_key() -> None:
    """Make the demo key unless the one that was written down is still good."""
    path = _layout().secrets_file
    stored = credentials.load(path)
    if stored.demo_key_id and stored.demo_key_id in _good_key_ids():
        return
    made = _json_of("apikey", "create", "--name", "demo", "--json")
    credentials.save_demo_key(path, key_id=str(made["id"]), key=made["key"])


def _good_key_ids() -> set[str]:
    return {str(key["id"]) for key in _json_of("apikey", "list", "--json") if not key["revoked_at"]}


def _json_of(*command: str) -> Any:
    output = StringIO()
    call_command(*command, stdout=output)
    return json.loads(output.getvalue())


def _layout() -> Layout:
    return Layout(state_dir=settings.STATE_DIR)


if __name__ == "__main__":
    main()
