"""What a streamed answer holds while it is sent, for minutes: nothing of its request."""

from __future__ import annotations

from django.db import connections

from chat.running.sse import SseResponse
from scaling.connections import drop_connections


def test_a_stream_that_is_sent_holds_neither_its_request_nor_its_head() -> None:
    closed: list[str] = []
    environ = {"gunicorn.socket": 1, "HTTP_AUTHORIZATION": "Bearer x", "wsgi.input": 2}
    response = SseResponse(
        iter([b"a", b"b"]), on_close=lambda: closed.append("stream"), environ=environ
    )
    response._resource_closers.append(lambda: closed.append("request"))  # noqa: SLF001
    assert response.headers
    events = iter(response)
    assert (environ, closed, dict(response.headers)) == ({"gunicorn.socket": 1}, ["request"], {})
    assert list(events) == [b"a", b"b"]
    response.close()
    assert closed == ["request", "stream"]


def test_djangos_database_objects_are_dropped_and_made_again() -> None:
    before = connections["default"]
    drop_connections()
    assert connections["default"] is not before
