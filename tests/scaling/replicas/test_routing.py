"""Routing of reads by a process's state; PostgreSQL and Redis are real, replicas samples."""

from __future__ import annotations

import threading
import uuid

import gevent
import pytest
from django.db import connection, connections, transaction
from django.db.utils import OperationalError

from access.models import Account, ApiKey
from chat.models import Chain
from jobs import services
from jobs.models import Job, Worker
from scaling.replicas import publishing, read_context, routing
from scaling.replicas.decision import PRIMARY
from scaling.replicas.health import GOOD_SAMPLES
from scaling.replicas.last_writes import LAST_WRITES
from scaling.replicas.position import Position
from scaling.replicas.topology import TOPOLOGY
from tests.scaling.replicas.sampled_replica import (
    FAR,
    account,
    become_another_node,
    begin,
    now,
    read,
    replica,
    set_replayed,
)
from tests.support.redis_server import own_redis
from tests.support.rows import make_job

__all__ = ["account", "own_redis", "replica"]


def test_an_account_that_wrote_nothing_reads_from_a_replica(replica, account):
    begin(account)
    assert read() == "r1"


def test_a_request_that_changes_something_reads_from_the_primary(replica, account):
    begin(account, reads_replicas=False)
    assert read() == PRIMARY


def test_models_without_a_scope_and_readers_without_an_account_stay_on_the_primary(replica):
    assert read(Worker) == PRIMARY
    assert read() == PRIMARY
    read_context.start_request(is_admin=True)
    assert (read(), read(Chain)) == (PRIMARY, PRIMARY)


def test_keys_and_chains_are_read_from_replicas_for_all_accounts(replica, account):
    assert read(Chain) == "r1"
    begin(account, reads_replicas=False)
    assert read(ApiKey) == "r1"


def test_what_is_written_is_read_from_the_primary_until_the_replica_has_it(replica, account):
    begin(account)
    Account.objects.create(name=account)
    assert read() == PRIMARY
    recorded = publishing.publish_position()
    assert recorded is not None
    replica(Position(recorded.timeline, recorded.lsn - 1))
    assert read() == PRIMARY
    replica(recorded)
    assert read() == "r1"
    # Another request, as on another node, finds it in Redis.
    become_another_node()
    begin(account)
    assert read() == "r1"
    begin(account)
    replica(Position(recorded.timeline, recorded.lsn - 1))
    assert read() == PRIMARY
    # A reader that wrote nothing is not affected, except by shared writes.
    begin(uuid.uuid4().hex)
    assert read() == "r1"
    assert read(ApiKey) == PRIMARY


def test_an_accounts_writes_send_no_other_account_to_the_primary(replica, account):
    owner = Account.objects.create(name=account)
    chain = Chain.objects.create(slug="c", runnable="assistant")
    replica(now())
    begin(owner.pk.hex, reads_replicas=False)
    # As it is submitted by a node, which has the chain from another request. Django asks for the
    # server that such a row would be written to.
    Job.objects.create(
        account_id=owner.pk,
        chain=Chain(pk=chain.pk, slug="c"),
        input={},
        timeout_seconds=1,
        max_attempts=1,
    )
    recorded = publishing.publish_position()
    assert recorded is not None
    replica(Position(recorded.timeline, recorded.lsn - 1))
    begin(owner.pk.hex)
    assert (read(), read(Chain)) == (PRIMARY, "r1")
    begin(uuid.uuid4().hex)
    assert (read(), read(ApiKey)) == ("r1", "r1")


def test_raw_statements_are_writes_too(replica, account):
    begin(account)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert read() == "r1"
        cursor.execute("UPDATE access_account SET name = name WHERE false")
    assert read() == PRIMARY


def test_what_a_worker_writes_in_a_transaction_is_recorded_with_it(replica, account):
    read_context.deactivate()
    with transaction.atomic():
        Account.objects.create(name=account)
        assert publishing.publish_position([account]) is None
        assert LAST_WRITES.required(account) is None
    assert LAST_WRITES.required(account)


def test_a_command_publishes_shared_writes_at_once(replica):
    replica(now())
    assert read(Chain) == "r1"
    with transaction.atomic():
        made = Account.objects.create(name=uuid.uuid4().hex)
    read_context.deactivate()
    assert read(Chain) == PRIMARY
    replica(now())
    assert read(Chain) == "r1"
    made.delete()
    read_context.deactivate()
    assert read(Chain) == PRIMARY


def test_no_read_inside_a_transaction_leaks_to_a_replica(replica, account):
    begin(account)
    with transaction.atomic():
        assert read() == PRIMARY
        with read_context.replica():
            assert (read(), read(Chain)) == (PRIMARY, PRIMARY)
    # A query that was only written down before the transaction is routed when it runs.
    rows = Account.objects.filter(name="x")
    assert rows.db == "r1"
    with transaction.atomic():
        assert rows.db == PRIMARY
        assert rows.select_for_update().db == PRIMARY


def test_unrecorded_writes_stay_so_within_a_choice_of_the_server():
    context = read_context.start_request()
    try:
        with read_context.unrecorded(), read_context.primary():
            read_context.mark_written()
        assert not context.wrote
        with read_context.primary(), read_context.unrecorded():
            pass
        read_context.mark_written()
        assert context.wrote
    finally:
        read_context.deactivate()


def test_code_may_choose_the_server_of_its_reads(replica, account):
    begin(account)
    with read_context.primary():
        assert read() == PRIMARY
        with read_context.replica():
            assert read() == "r1"
        assert read() == PRIMARY
    replica(Position(1, 0))
    LAST_WRITES.record([account], FAR)
    with read_context.replica():
        assert read() == "r1"
    assert read() == PRIMARY


def test_a_job_sees_what_is_written_for_its_account_while_it_runs(replica, account):
    replica(Position(1, 5))
    context = read_context.ReadContext(rereads_positions=True)
    context.bind_account(account, reads_replicas=True)
    read_context.activate(context)
    assert read() == "r1"
    LAST_WRITES.record([account], Position(1, 9))
    assert read() == PRIMARY


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("failed", services.retry),
        ("queued", services.request_cancel),
        ("running", services.request_cancel),
        ("running", services.requeue),
    ],
)
def test_an_account_sees_what_staff_did_to_its_jobs(replica, account, status, change):
    owner = Account.objects.create(name=account)
    job = make_job(status, account=owner)
    before = now()
    replica(before)
    begin(owner.pk.hex)
    assert read() == "r1"
    read_context.start_request(is_admin=True)
    change(job)
    begin(owner.pk.hex)
    become_another_node()
    assert read() == PRIMARY
    replica(now())
    assert read() == "r1"


def test_a_client_may_carry_its_position(replica, account):
    replica(Position(1, 100))
    begin(account, min_position=Position(1, 100))
    assert read() == "r1"
    begin(account, min_position=Position(1, 101))
    assert read() == PRIMARY


def test_detached_and_faulty_replicas_get_no_reads(replica, account):
    TOPOLOGY.replicas["r1"].is_detached = True
    begin(account)
    assert read() == PRIMARY
    TOPOLOGY.replicas["r1"].is_detached = False
    TOPOLOGY.replicas["r1"].good_samples = GOOD_SAMPLES - 1
    assert read() == PRIMARY


def test_equally_busy_replicas_take_turns(replica, account):
    TOPOLOGY.set_replicas(["r1", "r2"])
    set_replayed("r2", FAR)
    seen = set()
    for _ in range(4):
        begin(account)
        seen.add(read())
    assert seen == {"r1", "r2"}
    TOPOLOGY.replicas["r1"].busy = 1
    for _ in range(4):
        begin(account)
        assert read() == "r2"


def test_one_request_reads_from_one_replica_while_that_shows_enough(replica, account):
    TOPOLOGY.set_replicas(["r1", "r2"])
    set_replayed("r1", FAR)
    set_replayed("r2", FAR)
    begin(account)
    first = read()
    TOPOLOGY.replicas[first].busy = 5
    assert {read() for _ in range(4)} == {first}
    TOPOLOGY.replicas[first].is_detached = True
    assert read() not in {first, PRIMARY}


def test_greenlets_and_threads_have_readers_of_their_own(replica, account):
    begin(account)
    seen: list[str] = []
    gevent.spawn(lambda: seen.append(read())).join()
    thread = threading.Thread(target=lambda: (seen.append(read()), connections.close_all()))
    thread.start()
    thread.join()
    assert seen == [PRIMARY, PRIMARY]
    assert read() == "r1"


def test_a_read_that_fails_on_replicas_is_done_on_the_others_and_then_on_the_primary(
    replica, account
):
    TOPOLOGY.set_replicas(["r1", "r2"])
    set_replayed("r2", FAR)
    begin(account)
    servers: list[str] = []

    def work() -> str:
        servers.append(read())
        if servers[-1] != PRIMARY:
            raise OperationalError("gone")
        return "done"

    assert routing.repeated_elsewhere(work) == "done"
    assert sorted(servers[:2]) == ["r1", "r2"]
    assert servers[2:] == [PRIMARY]
    with pytest.raises(OperationalError), read_context.primary():
        routing.repeated_elsewhere(lambda: (_ for _ in ()).throw(OperationalError("gone")))
