"""Reads and writes through a PgBouncer that pools by transaction."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.stack_plugin import CLEAN_ENVIRONMENT, MANAGE, EmbeddedStack
from tests.support.pgbouncer import bouncer

# Fewer than the threads below, so that each transaction gets another's connection.
SERVER_CONNECTIONS = 3
THREADS = 8
ROUNDS = 10

# Runs in a process whose DATABASE_URL is PgBouncer's: writes, locks and reads of the real services.
WORK = """
import json, threading, uuid
from django.db import connection, transaction
from access.models import Account
from access.services import create_key, find_principal
from chat.conversations import services
from chat.conversations.statements import CHAIN, fetch
from chat.models import Chain, Conversation
from config.api.pagination import Cursor
from scaling.connections import release_connections
from scaling.replicas.backend.prepared import prepares

THREADS, ROUNDS = {threads}, {rounds}
made = create_key(name="bounced", account_name=f"bounced {{uuid.uuid4().hex}}")
account = made.key.account
errors = []

def work():
    try:
        for number in range(ROUNDS):
            find_principal(made.secret)
            kept = services.create_conversation(
                account_id=account.pk, chain_slug="{chain}", metadata={{"n": "0"}}
            )
            release_connections()
            with transaction.atomic():
                row = Conversation.objects.select_for_update().get(pk=kept.pk)
                row.metadata = {{"n": str(number)}}
                row.save()
            again = services.get_conversation(account_id=account.pk, public_id=str(kept))
            assert again.metadata == {{"n": str(number)}}, again.metadata
            rows = fetch(CHAIN, conversation=kept.pk, account=account.pk)
            assert rows == [("{chain}",)], rows
            assert not prepares(connection.connection)
            release_connections()
            list(Conversation.objects.filter(account=account).iterator(chunk_size=2))
            with connection.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                assert cursor.fetchone()[0] == "7s"
            release_connections()
    except Exception as error:
        errors.append(repr(error))
    finally:
        release_connections()

threads = [threading.Thread(target=work) for _ in range(THREADS)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
count = Conversation.objects.filter(account=account).count()
Conversation.objects.filter(account=account).delete()
account.delete()
print(json.dumps({{"errors": errors, "count": count}}))
"""


@pytest.fixture(scope="module")
def bouncer_url(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start PgBouncer before the stack's primary; its URL has a role with its own timeouts."""
    direct = urlsplit((stack.state_dir / "run" / "database.url").read_text().strip())
    # `options` is a startup parameter that PgBouncer does not pass on; a role's settings are.
    with psycopg.connect(direct.geturl(), autocommit=True) as connection:
        connection.execute("ALTER ROLE headrace IN DATABASE headrace SET lock_timeout = '7s'")
    directory = tmp_path_factory.mktemp("pgbouncer")
    try:
        with bouncer(directory, direct.geturl(), server_connections=SERVER_CONNECTIONS) as one:
            yield one.url
    finally:
        with psycopg.connect(direct.geturl(), autocommit=True) as connection:
            connection.execute("ALTER ROLE headrace IN DATABASE headrace RESET lock_timeout")


def test_services_work_behind_pgbouncer(stack: EmbeddedStack, bouncer_url: str) -> None:
    lines = (stack.state_dir / "stack.env").read_text().splitlines()
    environment = {
        **CLEAN_ENVIRONMENT,
        **dict(line.split("=", 1) for line in lines),
        "DATABASE_URL": bouncer_url,
        "DATABASE_POOL_MAX": str(THREADS),
    }
    environment.pop("DATABASE_URL_FILE", None)
    code = WORK.format(threads=THREADS, rounds=ROUNDS, chain="assistant")
    done = subprocess.run(
        [*MANAGE, "shell", "-v0", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told == {"errors": [], "count": THREADS * ROUNDS}
