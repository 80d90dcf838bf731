from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from access.errors import LimitExceeded
from access.limits import admit, shared
from access.limits.admission import Admission
from access.limits.leases import LeaseKeeper
from access.principal import Limits
from scaling.redis_client import run


@pytest.fixture
def keeper() -> LeaseKeeper:
    return LeaseKeeper(every_seconds=0.05)


@pytest.fixture
def short_leases(monkeypatch):
    monkeypatch.setattr("access.limits.shared.LEASE_SECONDS", 0.6)


def take(principal, lease: str) -> Admission:
    shared.admit(key_id=principal.key_id, limits=Limits(max_concurrent=9), lease=lease)
    return Admission(principal.key_id)


def leases_of(principal) -> set[str]:
    name = f"headrace:limits:{{{principal.key_id.hex}}}:leases"
    now = time.time() * 1000
    leases: list[Any] = run(lambda client: client.zrangebyscore(name, now, "+inf"))
    return {lease.decode() for lease in leases}


@pytest.mark.usefixtures("short_leases")
def test_a_request_holds_its_slot_for_as_long_as_it_runs(make_principal, keeper):
    principal = make_principal()
    holder = take(principal, "a")
    keeper.hold("a", holder)
    time.sleep(1.2)
    assert leases_of(principal) == {"a"}
    keeper.release("a")
    time.sleep(0.8)
    assert leases_of(principal) == set()


@pytest.mark.usefixtures("short_leases")
def test_a_request_that_is_collected_without_an_end_loses_its_slot(make_principal, keeper):
    principal = make_principal()
    holder = take(principal, "a")
    keeper.hold("a", holder)
    del holder
    gc.collect()
    time.sleep(0.8)
    assert leases_of(principal) == set()
    assert keeper.renew_once() == "no leases to renew"


def test_a_released_lease_does_not_come_back(make_principal):
    principal = make_principal()
    take(principal, "a")
    shared.finish(key_id=principal.key_id, lease="a", tokens=0)
    shared.renew({principal.key_id: ["a"]})
    assert leases_of(principal) == set()


def test_all_leases_of_all_keys_are_renewed_in_one_round(make_principal, keeper):
    principals = [make_principal() for _ in range(3)]
    holders = [take(principal, f"{n}") for n, principal in enumerate(principals)]
    holders.append(take(principals[0], "extra"))
    for number, holder in enumerate(holders):
        keeper.hold("extra" if number == 3 else f"{number}", holder)
    run(lambda client: client.script_flush())
    assert keeper.renew_once() == "renewed 4 leases"


def test_a_round_without_redis_says_so_and_the_next_one_goes_on(
    make_principal, keeper, own_redis, settings
):
    settings.REDIS_RETRY_SECONDS = 0
    principal = make_principal()
    holder = take(principal, "a")
    keeper.hold("a", holder)
    own_redis.freeze()
    assert keeper.renew_once().startswith("could not renew")
    own_redis.thaw()
    time.sleep(0.1)
    assert keeper.renew_once() == "renewed 1 leases"


def test_one_thread_serves_all_leases(make_principal):
    keeper = LeaseKeeper(every_seconds=30)
    before = threading.active_count()
    holders = [Admission(make_principal().key_id) for _ in range(50)]
    for number, holder in enumerate(holders):
        keeper.hold(str(number), holder)
    assert threading.active_count() == before + 1


def test_a_forked_child_renews_nothing_of_its_parent_and_starts_a_thread_of_its_own(
    make_principal,
):
    keeper = LeaseKeeper(every_seconds=30)
    holder = Admission(make_principal().key_id)
    keeper.hold("a", holder)
    child = os.fork()
    if child == 0:
        is_empty = keeper.renew_once() == "no leases to renew"
        keeper.hold("b", holder)
        is_running = any(thread.name == "lease-keeper" for thread in threading.enumerate())
        os._exit(0 if is_empty and is_running else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_slots_of_a_killed_process_are_free_after_the_lease(make_principal, own_redis):
    principal = make_principal(max_concurrent=2)
    code = f"""
import sys, time, uuid
import django; django.setup()
from access.limits import admit, shared
from access.principal import Limits, Principal
shared.LEASE_SECONDS = 1
principal = Principal(key_id=uuid.UUID("{principal.key_id}"), account_id=uuid.uuid4(),
    account_name="", name="", scopes=frozenset(), limits=Limits(max_concurrent=2))
held = [admit(principal, is_model_call=True) for _ in range(2)]
print("held", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "CACHE_URL": own_redis.url},
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(LimitExceeded):
        admit(principal, is_model_call=True)
    other.kill()
    other.wait()
    time.sleep(1.1)
    admit(principal, is_model_call=True).finish()


def test_it_works_under_gevent_too(make_principal, own_redis):
    principal = make_principal(max_concurrent=5)
    code = f"""
from gevent import monkey; monkey.patch_all()
import time, uuid
import gevent
import django; django.setup()
from access.errors import LimitExceeded
from access.limits import admit, shared
from access.principal import Limits, Principal
shared.LEASE_SECONDS = 1
principal = Principal(key_id=uuid.UUID("{principal.key_id}"), account_id=uuid.uuid4(),
    account_name="", name="", scopes=frozenset(), limits=Limits(max_concurrent=5))
passed = []
def work():
    try:
        one = admit(principal, is_model_call=True)
    except LimitExceeded:
        return
    passed.append(1)
    gevent.sleep(2.5)
    one.finish()
greenlets = [gevent.spawn(work) for _ in range(40)]
gevent.sleep(2)
greenlets += [gevent.spawn(work) for _ in range(40)]
gevent.joinall(greenlets, raise_error=True)
assert len(passed) == 5, passed
admit(principal, is_model_call=True).finish()
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env={**os.environ, "CACHE_URL": own_redis.url},
    )
