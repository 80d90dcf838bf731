import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import scaling.redis_client
from config.api.ids import new_uuid
from scaling.redis_client import RedisUnavailable, Script, run
from scaling.script_batch import ScriptBatch

COUNT = Script("return redis.call('INCR', KEYS[1])")
ECHO = Script("return tonumber(ARGV[1])")
FAIL = Script("return redis.error_reply('no')")
# Redis stops its clock while a script runs, so this counts instead.
SLOW = Script("for i = 1, tonumber(ARGV[1]) do end return 1")
LONGER_THAN_THE_TIMEOUT = 30_000_000


@pytest.fixture(autouse=True)
def _closed_breaker():
    scaling.redis_client.reset()
    yield
    scaling.redis_client.reset()


def key() -> str:
    return f"headrace:test:{new_uuid().hex}"


def reads() -> int:
    return run(lambda client: client.info("stats"))["total_reads_processed"]


def test_every_caller_gets_its_own_answer():
    batch = ScriptBatch()
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda n: batch.call(ECHO, (), (n,), int), range(500))
    assert list(answers) == list(range(500))


def test_every_call_runs_once():
    batch = ScriptBatch()
    name = key()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: batch.call(COUNT, (name,), (), int), range(300)))
    assert sorted(answers) == list(range(1, 301))


def test_calls_that_come_at_once_share_round_trips():
    batch = ScriptBatch()
    batch.call(ECHO, (), (1,), int)
    barrier = threading.Barrier(64)

    def call(number: int) -> int:
        barrier.wait()
        return batch.call(ECHO, (), (number,), int)

    before = reads()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(call, range(64)))
    assert reads() - before < 40


def test_one_refused_script_fails_no_other_call():
    batch = ScriptBatch()

    def call(number: int) -> int | str:
        try:
            return batch.call(FAIL if number % 10 == 0 else ECHO, (), (number,), int)
        except RedisUnavailable:
            return "refused"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(100)))
    assert answers == ["refused" if n % 10 == 0 else n for n in range(100)]
    assert batch.call(ECHO, (), (7,), int) == 7


def test_a_server_that_lost_its_scripts_gets_them_again():
    batch = ScriptBatch()
    batch.call(ECHO, (), (1,), int)
    run(lambda client: client.script_flush())
    assert batch.call(ECHO, (), (2,), int) == 2


def test_an_answer_that_makes_no_sense_opens_the_breaker():
    batch = ScriptBatch()

    def refuse(answer: object) -> int:
        raise ValueError(answer)

    with pytest.raises(RedisUnavailable):
        batch.call(ECHO, (), (1,), refuse)
    with pytest.raises(RedisUnavailable) as refusal:
        batch.call(ECHO, (), (1,), int)
    assert not refusal.value.may_have_run


def test_a_slow_server_fails_all_waiting_calls_and_then_none_hangs():
    batch = ScriptBatch()
    batch.call(SLOW, (), (1,), int)

    def call(number: int) -> str:
        try:
            batch.call(SLOW, (), (LONGER_THAN_THE_TIMEOUT,), int)
        except RedisUnavailable:
            return "unavailable"
        return "answered"

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(call, range(3))) == {"unavailable"}
    # The scripts run on in the server, which must be well again for the next test.
    time.sleep(1.5)


def test_a_leader_that_dies_leaves_the_lead_to_the_next():
    batch = ScriptBatch()
    batch.call(ECHO, (), (1,), int)
    leads, may_die = threading.Event(), threading.Event()

    class Killed(BaseException):
        """As gevent throws into a greenlet that is killed."""

    def parse(answer: object) -> int:
        # Runs in the leader, once its round trip is over.
        leads.set()
        may_die.wait(5)
        raise Killed

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(batch.call, ECHO, (), (1,), parse)
        assert leads.wait(5)
        follower = pool.submit(batch.call, ECHO, (), (2,), int)
        time.sleep(0.1)
        assert not follower.done()
        may_die.set()
        assert follower.result(timeout=5) == 2
        with pytest.raises(Killed):
            leader.result(timeout=5)
