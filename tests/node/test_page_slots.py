"""Pages take turns, and their floods none of the API's."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.event
import pytest

from node.page_slots import Pages, PageSlots


def slots(
    *, concurrency: int = 1, queue: int = 1, wait_seconds: float = 0.2, cpu_share: float = 1.0
) -> PageSlots:
    return PageSlots(
        concurrency=concurrency, queue=queue, wait_seconds=wait_seconds, cpu_share=cpu_share
    )


class Site:
    """An application whose pages last until `go` is set, before Pages of one slot and one wait."""

    def __init__(self) -> None:
        self.go = gevent.event.Event()
        self.inside: list[str] = []
        self.pages = Pages(self._answer, slots)

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.inside.append(environ["PATH_INFO"])
        if "fail" in environ["PATH_INFO"]:
            raise RuntimeError("no page")
        self.go.wait()
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    def get(self, path: str, body: bytes = b"") -> gevent.Greenlet[..., tuple[str, bytes]]:
        """Request a page in a greenlet, which returns status and body."""
        environ = {
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }

        def ask() -> tuple[str, bytes]:
            said: list[str] = []
            answer = self.pages(environ, lambda status, headers: said.append(status))  # type: ignore[arg-type]
            return said[0], b"".join(answer)

        asking = gevent.spawn(ask)
        gevent.sleep(0)
        return asking


@pytest.fixture
def site() -> Site:
    return Site()


def test_pages_wait_for_their_turn_and_those_after_them_are_refused(site: Site) -> None:
    first, second, third = [site.get(path) for path in ("/docs", "/nothing", "/static/a.css")]

    status, body = third.get(timeout=5)
    assert status == "503 Service Unavailable"
    error = json.loads(body)["error"]
    assert error["code"] == "overloaded"
    assert "PAGE_CONCURRENCY" in error["message"]
    assert site.inside == ["/docs"]

    site.go.set()
    assert [page.get(timeout=5)[0] for page in (first, second)] == ["200 OK", "200 OK"]


def test_a_page_that_waits_too_long_is_refused(site: Site) -> None:
    site.get("/docs")

    assert site.get("/docs").get(timeout=5)[0].startswith("503")


@pytest.mark.parametrize("path", ["/v1/models", "/chains/a/invoke", "/health/ready", "/metrics"])
def test_what_is_no_page_needs_no_slot(site: Site, path: str) -> None:
    pages = [site.get("/docs") for _ in range(4)] + [site.get("/admin/") for _ in range(4)]
    site.get(path)

    assert path in site.inside
    gevent.killall(pages)


def test_strangers_pages_take_none_of_the_admins_slots(site: Site) -> None:
    pages = [site.get("/nothing") for _ in range(4)]
    site.get("/admin/")

    assert "/admin/" in site.inside
    gevent.killall(pages)


def test_a_page_that_fails_gives_its_slot_back(site: Site) -> None:
    site.go.set()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            site.get("/fail").get(timeout=5)

    assert site.get("/docs").get(timeout=5)[0] == "200 OK"


def test_a_small_form_is_read_before_its_turn(site: Site) -> None:
    site.go.set()
    assert site.get("/admin/", b"a=1").get(timeout=5) == ("200 OK", b"a=1")


def test_a_form_that_stalls_takes_no_slot(site: Site) -> None:
    inside: list[list[str]] = []

    class Stalled:
        def read(self, size: int = 0) -> bytes:
            inside.append(list(site.inside))
            raise TimeoutError

    site.go.set()
    environ = {"PATH_INFO": "/admin/", "CONTENT_LENGTH": "3", "wsgi.input": Stalled()}
    with pytest.raises(TimeoutError):
        b"".join(site.pages(environ, lambda *said: None))  # type: ignore[arg-type]

    # Django reads again, and says what is wrong.
    assert inside == [[], ["/admin/"]]


def test_a_slot_rests_as_long_as_its_page_computed() -> None:
    one = slots(cpu_share=0.25, wait_seconds=5)
    assert one.acquire()
    began = time.monotonic()
    one.release(0.05)

    assert one.acquire()
    assert time.monotonic() - began >= 0.15
