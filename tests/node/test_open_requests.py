"""The requests that an account has open at a process, and the bytes that they hold."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from node.callers import CALLERS
from node.open_requests import OpenRequestsLayer
from node.request_bodies import RequestBodies

MIB = 1024 * 1024
ANSWERS = {"/v1/small": 10, "/v1/large": 2 * MIB, "/v1/fail": 0}


class Exchange:
    """A request through the layer, and its answer as far as it was read."""

    def __init__(self, layer: Any, path: str, key: str, **environ: Any) -> None:
        self.status = ""
        self.code = ""
        environ = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"x" * 1000), **environ}
        self.body = layer(
            {"PATH_INFO": path, "HTTP_AUTHORIZATION": f"Bearer {key}", **environ}, self._start
        )
        data = b"".join(self.body)
        if not self.status.startswith("200"):
            self.code = json.loads(data)["error"]["code"]

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = status[:3]

    def close(self) -> None:
        """End the request, as the server does once the answer is sent."""
        if (close := getattr(self.body, "close", None)) is not None:
            close()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body, and answer with as many bytes as the path says."""
    environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/v1/fail":
        raise RuntimeError("no answer")
    size = ANSWERS.get(environ["PATH_INFO"], 10)
    start_response("200 OK", [("Content-Length", str(size))])
    return [b"a" * size]


@pytest.fixture
def layer(settings: Any) -> OpenRequestsLayer:
    """A layer of small sizes."""
    settings.MAX_REQUESTS_PER_ACCOUNT = 3
    settings.MAX_REQUEST_BYTES_PER_ACCOUNT = 4 * MIB
    settings.MAX_REQUEST_BYTES_PER_NODE = 7 * MIB
    return OpenRequestsLayer(RequestBodies(application))


@pytest.fixture
def keys() -> Iterator[str]:
    """Keys of an account each."""

    def new() -> Iterator[str]:
        while True:
            key = uuid.uuid4().hex
            CALLERS.remember(f"Bearer {key}", key)
            yield key

    return new()


def test_an_account_has_so_many_requests_open_and_others_as_many(
    layer: OpenRequestsLayer, keys: Iterator[str]
) -> None:
    mine, other = next(keys), next(keys)
    opened = [Exchange(layer, "/v1/small", mine) for _ in range(3)]
    refused = Exchange(layer, "/v1/small", mine)

    assert [exchange.status for exchange in opened] == ["200"] * 3
    assert (refused.status, refused.code) == ("429", "too_many_open_requests")
    assert Exchange(layer, "/v1/small", other).status == "200"
    opened[0].close()
    opened[0].close()
    assert Exchange(layer, "/v1/small", mine).status == "200"
    assert Exchange(layer, "/v1/small", mine).status == "429"


def test_bodies_are_counted_by_the_length_that_they_declare(
    layer: OpenRequestsLayer, keys: Iterator[str]
) -> None:
    mine, other, third = next(keys), next(keys), next(keys)
    length = {"CONTENT_LENGTH": str(3 * MIB)}
    first = Exchange(layer, "/v1/small", mine, **length)
    refused = Exchange(layer, "/v1/small", mine, **length)

    assert (refused.status, refused.code) == ("429", "too_many_open_bytes")
    assert Exchange(layer, "/v1/small", mine, CONTENT_LENGTH="1000").status == "200"
    assert Exchange(layer, "/v1/small", other, **length).status == "200"
    full = Exchange(layer, "/v1/small", third, **length)
    assert (full.status, full.code) == ("503", "too_many_open_bytes")
    first.close()
    assert Exchange(layer, "/v1/small", third, **length).status == "200"


def test_an_answer_that_was_only_read_is_dropped_where_too_many_are_held(
    layer: OpenRequestsLayer, keys: Iterator[str]
) -> None:
    mine = next(keys)
    read = {"REQUEST_METHOD": "GET"}
    held = [Exchange(layer, "/v1/large", mine, **read) for _ in range(2)]
    dropped = Exchange(layer, "/v1/large", mine, **read)
    dropped.close()

    assert [exchange.status for exchange in held] == ["200", "200"]
    assert (dropped.status, dropped.code) == ("429", "too_many_open_bytes")
    # What a write did is done; its answer is sent.
    written = Exchange(layer, "/v1/large", mine)
    assert written.status == "200"
    written.close()
    held[0].close()
    assert Exchange(layer, "/v1/large", mine, **read).status == "200"


def test_a_chunked_body_counts_as_the_largest_until_it_is_read(
    layer: OpenRequestsLayer, keys: Iterator[str], settings: Any
) -> None:
    settings.MAX_REQUEST_BYTES_PER_ACCOUNT = settings.MAX_BODY_BYTES
    mine = next(keys)
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    inside: list[Exchange] = []

    class Reentrant(io.BytesIO):
        """Another request comes while this body does."""

        def read(self, *size: Any) -> bytes:
            inside.append(Exchange(layer, "/v1/small", mine, **chunked))
            return super().read(*size)

    outer = Exchange(layer, "/v1/small", mine, **{**chunked, "wsgi.input": Reentrant(b"x" * 1000)})

    assert inside[0].code == "too_many_open_bytes"
    assert outer.status == "200"
    assert Exchange(layer, "/v1/small", mine, **chunked).status == "200"


def test_a_body_with_images_counts_by_its_length(
    layer: OpenRequestsLayer, keys: Iterator[str], settings: Any
) -> None:
    settings.MAX_BODY_BYTES = MIB
    settings.MAX_MEDIA_BODY_BYTES = 3 * MIB
    mine = next(keys)
    statuses = []
    for path in ("/v1/small", "/v1/chat/completions"):
        for size in (2 * MIB, 9 * MIB):
            held = Exchange(layer, path, mine, CONTENT_LENGTH=str(size))
            other = Exchange(layer, "/v1/small", mine, CONTENT_LENGTH=str(3 * MIB))
            beside = Exchange(layer, path, mine, CONTENT_LENGTH=str(3 * MIB))
            statuses.append((held.status, other.status, beside.code))
            for one in (held, other, beside):
                one.close()
    assert statuses == [
        ("200", "200", ""),
        ("200", "200", ""),
        ("200", "200", "too_many_open_bytes"),
        ("200", "200", "too_many_open_bytes"),
    ]


def test_a_request_that_fails_is_open_no_longer(
    layer: OpenRequestsLayer, keys: Iterator[str]
) -> None:
    mine = next(keys)
    for _ in range(5):
        with pytest.raises(RuntimeError):
            Exchange(layer, "/v1/fail", mine)
    assert Exchange(layer, "/v1/small", mine).status == "200"


def test_pages_are_not_counted(layer: OpenRequestsLayer, keys: Iterator[str]) -> None:
    mine = next(keys)
    opened = [Exchange(layer, "/admin/", mine) for _ in range(5)]
    assert {exchange.status for exchange in opened} == {"200"}


def test_credentials_that_are_not_known_are_one_caller(layer: OpenRequestsLayer) -> None:
    opened = [Exchange(layer, "/v1/small", uuid.uuid4().hex) for _ in range(4)]
    assert [exchange.status for exchange in opened] == ["200"] * 3 + ["429"]
