"""The database moves, hangs partly or completely, or has a full disk: guarantees, and recovery.

The bounds are those of the settings, with a few seconds for a busy machine.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.database_bench import (
    FAKETIME,
    POOL_TIMEOUT_SECONDS,
    Answer,
    Bench,
    Steady,
    small_disk,
)
from tests.jobs.notifications.receivers import Receiver, answer
from tests.support.pgbouncer import bouncer
from tests.support.waiting import eventually, slack

# No read waits for a pool, which would take POOL_TIMEOUT_SECONDS; a burst takes what a busy machine
# takes.
READ_SECONDS = 10.0
# A hanging primary is known to be unavailable after 5 s; a request may have waited for a connection
# first.
REFUSAL_SECONDS = 5.0 + POOL_TIMEOUT_SECONDS + 1.0
MOVED_SECONDS = 5.0
DISK_MEGABYTES = 96
# A webhook's receiver takes 300 s.
CLOCK_SECONDS = 60.0
# After so long every process has seen that its clock was set.
CLOCK_CACHE_SECONDS = 1.5

pytestmark = pytest.mark.timeout(240, func_only=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The servers, on a small disk where this may be mounted, and a stack."""
    root = tmp_path_factory.mktemp("database")
    with contextlib.ExitStack() as stack:
        disk = root / "disk"
        if os.geteuid() == 0:
            stack.enter_context(small_disk(disk, megabytes=DISK_MEGABYTES))
        else:
            disk.mkdir()
        bench = Bench(root, disk / "first")
        stack.enter_context(bench.running())
        yield bench


@pytest.fixture(autouse=True)
def good(bench: Bench) -> Iterator[None]:
    """All is well before each test, and after it by itself; and no write is lost."""
    bench.await_good()
    yield
    bench.await_good()
    assert not bench.lost()


def assert_served(reads: list[Answer]) -> None:
    assert reads
    assert {read.status for read in reads} == {200}, reads
    slow = [read.seconds for read in reads if read.seconds > READ_SECONDS]
    assert not slow


def assert_bounded(writes: list[Answer]) -> None:
    assert writes
    wrong = [write for write in writes if write.status != 201 and not write.is_refusal]
    assert not wrong
    assert max(write.seconds for write in writes) < slack(REFUSAL_SECONDS)


def test_no_read_waits_for_a_replica_whose_new_connections_hang(bench: Bench) -> None:
    with bench.second.frozen(only_postmaster=True):
        for _ in range(3):
            writes, reads = bench.many(posts=4, gets=12)
            assert_served(reads)
            assert {write.status for write in writes} == {201}
            assert max(write.seconds for write in writes) < slack(READ_SECONDS)
        eventually(lambda: not bench.is_in_rotation(), seconds=10, what="it leaves rotation")


def test_a_primary_whose_new_connections_hang_costs_no_read_and_no_write_more_than_its_pool(
    bench: Bench,
) -> None:
    with bench.first.frozen(only_postmaster=True):
        writes, reads = bench.many(posts=24, gets=6)
        assert_served(reads)
        assert_bounded(writes)


def test_a_replica_that_is_frozen_costs_no_request(bench: Bench) -> None:
    with bench.second.frozen(), Steady(bench) as steady:
        time.sleep(5)
    # What was being read when it froze is read again.
    assert {read.status for read in steady.reads} == {200}
    assert max(read.seconds for read in steady.reads) < slack(READ_SECONDS)
    assert {write.status for write in steady.writes} == {201}


def test_a_primary_that_is_frozen_costs_no_read(bench: Bench) -> None:
    with bench.first.frozen(), Steady(bench) as steady:
        time.sleep(8)
    assert_bounded(steady.writes)
    assert any(write.is_refusal for write in steady.writes)
    # A key is read again each second, and that was on its way when the primary froze.
    assert_served(steady.reads)


def test_both_frozen_at_once_refuse_within_a_bound_and_come_back(bench: Bench) -> None:
    with bench.first.frozen(), bench.second.frozen(), Steady(bench) as steady:
        time.sleep(8)
    assert_bounded(steady.writes)
    assert_bounded([read for read in steady.reads if read.status != 200])


@pytest.mark.skipif(not glob.glob(FAKETIME) and "CI" not in os.environ, reason="no libfaketime")
def test_clocks_that_jump_by_ten_minutes_change_nothing(bench: Bench) -> None:
    try:
        for seconds in (600, -600):
            bench.clock.set(seconds)
            eventually(
                lambda seconds=seconds: abs(bench.node_seconds_ahead() - seconds) < 30,
                seconds=10,
                what="the clocks jump",
            )
            with Receiver(answer(200)) as receiver:
                job = bench.run_job(input="hello", webhook_url=receiver.url())
                eventually(lambda: bool(receiver.received), seconds=10, what="a webhook comes")
            assert job["status"] == "succeeded"
            # PostgreSQL's clock, which is ours, and not that of a node or a worker.
            assert abs(job["created_at"] - time.time()) < CLOCK_SECONDS
            told = int(receiver.received[0].headers["webhook-timestamp"])
            assert abs(told - time.time()) < CLOCK_SECONDS
            writes, reads = bench.many(posts=4, gets=4)
            assert {write.status for write in writes} == {201}
            assert_served(reads)
    finally:
        bench.clock.set(0)


@contextlib.contextmanager
def frozen_worker(bench: Bench) -> Iterator[None]:
    """Stop the worker for the length of the block."""
    worker = psutil.Process(bench.stack.part("worker1")["pid"])
    processes = [worker, *worker.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def database_seconds_ahead(bench: Bench) -> float:
    """Return how far the primary's clock is ahead."""
    ((now,),) = bench.first.query("SELECT extract(epoch FROM clock_timestamp())::float8")
    assert isinstance(now, float)
    return now - time.time()


@pytest.mark.skipif(not glob.glob(FAKETIME) and "CI" not in os.environ, reason="no libfaketime")
def test_a_primary_whose_clock_jumps_by_ten_minutes_loses_and_doubles_no_job(bench: Bench) -> None:
    ids: dict[str, str] = {}
    try:
        for seconds in (600, 0, -600, 0):
            for number in range(4):
                text = f"clock {seconds} {number}"
                ids[bench.submit(chain="slow", input=text)] = text
            # These run, and this one waits.
            with frozen_worker(bench):
                ids[bench.submit(input=f"waits {seconds}")] = f"waits {seconds}"
                bench.primary_clock.set(seconds)
                time.sleep(CLOCK_CACHE_SECONDS)
            eventually(
                lambda seconds=seconds: abs(database_seconds_ahead(bench) - seconds) < 30,
                seconds=10,
                what="the clock jumps",
            )
            text = f"after {seconds}"
            ids[bench.submit(chain="quick", input=text)] = text
            for job_id, text in ids.items():
                job = bench.ended(job_id)
                assert (job["status"], job["output"]) == ("succeeded", text.upper()), job
            writes, reads = bench.many(posts=4, gets=4)
            assert {write.status for write in writes} == {201}
            assert_served(reads)
    finally:
        bench.primary_clock.set(0)
    doubled = bench.first.query(
        "SELECT job_id FROM jobs_attempt WHERE outcome = 'succeeded' GROUP BY 1 HAVING count(*) > 1"
    )
    assert doubled == []


def test_a_pgbouncer_that_is_frozen_costs_no_read_and_bounds_writes(
    bench: Bench, tmp_path: Path
) -> None:
    direct = bench.primary_name.target
    tmp_path.chmod(0o755)
    with bouncer(tmp_path, bench.first.url(), server_connections=20) as between:
        bench.primary_name.target = urlsplit(between.url).port or 0
        try:
            bench.first.end_clients()
            bench.await_good()
            between.process.send_signal(signal.SIGSTOP)
            with Steady(bench) as steady:
                time.sleep(8)
            assert_bounded(steady.writes)
            assert any(write.is_refusal for write in steady.writes)
            assert_served(steady.reads)
            between.process.send_signal(signal.SIGCONT)
            bench.await_good()
        finally:
            bench.primary_name.target = direct
    bench.await_good()


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own is mounted by root alone")
def test_a_full_disk_refuses_writes_and_costs_no_read(bench: Bench) -> None:
    filler = bench.first.data_dir.parent / "filler"
    try:
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
                file.flush()
        with Steady(bench, every_seconds=0.02) as steady:
            eventually(
                lambda: any(write.status != 201 for write in steady.writes),
                seconds=40,
                what="writes are refused",
            )
            time.sleep(4)
        assert_bounded(steady.writes)
        assert_served(steady.reads)
    finally:
        filler.unlink()


def test_a_primary_that_fails_over_behind_its_name_is_found_again(bench: Bench) -> None:
    first, second = bench.first, bench.second
    first.stop()
    second.promote()
    eventually(
        lambda: second.query("SELECT pg_is_in_recovery()") == [(False,)], seconds=10, what=""
    )
    # The name still leads to the old one, which comes back as a replica of the new.
    first.follow(second)
    with Steady(bench) as steady:
        time.sleep(3)
        moved_at = time.monotonic()
        bench.primary_name.target, bench.replica_name.target = second.port, first.port
        time.sleep(MOVED_SECONDS + 2)
    assert_bounded(steady.writes)
    late = [write for write in steady.writes if write.sent_at > moved_at + MOVED_SECONDS]
    assert {write.status for write in late} == {201}
