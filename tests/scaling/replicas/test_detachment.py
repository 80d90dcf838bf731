"""`manage.py replicas detach` and `attach`: every process obeys, and soon."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from scaling.replicas import detachment
from scaling.replicas.process_metrics import collect
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import run_manage
from tests.support.waiting import slack

OBEYED_SECONDS = 1.0
# A replica comes back after four good samples.
BACK_SECONDS = 4.0


@pytest.fixture
def name(stack: EmbeddedStack) -> Iterator[str]:
    """The stack's replica, attached again at the end."""
    [name] = stack.replica_urls
    yield name
    detachment.remove_detached(name)


@pytest.fixture(scope="module")
def readers(stack: EmbeddedStack) -> list[str]:
    """The addresses of two nodes and a worker."""
    kinds = ("node", "worker")
    return [part["address"] for part in stack.status()["parts"] if part["kind"] in kinds]


def seconds_until(readers: list[str], name: str, *, used_by: int, at_most: float) -> float:
    """Return after how long so many processes send a replica reads."""
    started = time.monotonic()
    while collect(readers).used_by[name] != used_by:
        assert time.monotonic() - started < slack(at_most), collect(readers)
        time.sleep(0.02)
    return time.monotonic() - started


def test_all_nodes_and_workers_obey_within_a_second(
    stack: EmbeddedStack, name: str, readers: list[str]
) -> None:
    assert len(readers) == 3
    seconds_until(readers, name, used_by=3, at_most=BACK_SECONDS)
    detachment.detach(name)
    assert seconds_until(readers, name, used_by=0, at_most=5) < slack(OBEYED_SECONDS)
    before = collect(readers).reads[name]
    time.sleep(1)
    # No read goes there any more.
    assert collect(readers).reads[name] == before
    detachment.attach(name)
    seconds_until(readers, name, used_by=3, at_most=BACK_SECONDS)


def test_the_commands_say_what_they_did(stack: EmbeddedStack, name: str) -> None:
    done = run_manage(stack, "replicas", "detach", name, "--json")
    assert json.loads(done.stdout) == {"name": name, "is_detached": True}
    assert detachment.read_detached() == {name}
    found = run_manage(stack, "replicas", "status", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)["servers"][1]["state"] == "detached"
    done = run_manage(stack, "replicas", "attach", name)
    assert done.stdout == f"{name} is attached; all nodes apply it within a second.\n"
    assert detachment.read_detached() == set()


def test_a_name_that_is_not_there_is_refused_with_those_that_are(
    stack: EmbeddedStack, name: str
) -> None:
    done = run_manage(stack, "replicas", "detach", "nobody")
    assert done.returncode == 1
    assert done.stderr.endswith(f"There is no replica 'nobody'; there is {name}.\n")
    with pytest.raises(detachment.DetachmentError, match="cannot be detached"):
        detachment.detach("default")
    with pytest.raises(detachment.DetachmentError, match="no replica 'nobody'"):
        detachment.attach("nobody")


@pytest.mark.usefixtures("stack")
def test_a_name_of_a_replica_that_is_gone_can_be_attached_to_forget_it() -> None:
    detachment.add_detached("long-gone")
    detachment.attach("long-gone")
    assert detachment.read_detached() == set()


def test_without_redis_detach_is_an_error(stack: EmbeddedStack, name: str) -> None:
    env = {"CACHE_URL": "redis://127.0.0.1:1/0"}
    done = run_manage(stack, "replicas", "detach", name, env=env)
    assert done.returncode == 1
    assert f"The nodes were not informed about {name}: Redis does not answer" in done.stderr
    assert detachment.read_detached() == set()


def test_detach_reports_that_no_replicas_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.replicas.detachment.connections.settings", {"default": {}})
    with pytest.raises(detachment.DetachmentError, match="There are no replicas"):
        detachment.detach("nobody")
