"""The requests that a busy node refuses, and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from node.callers import CALLERS
from node.fast_path import FastResponse
from node.load_shedding import LimitState, LoadShedder
from node.shedding_layer import LoadSheddingLayer

HIT = FastResponse("200 OK", [], b"kept")
PLAIN = {"x-request-id": "mine"}


def full() -> LoadShedder:
    """Return a shedder that refuses everything."""
    shedder = LoadShedder(target_seconds=0.1)
    shedder.limit_state = LimitState(limit=0)
    return shedder


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer, or fail for a path that ends so."""
    if environ["PATH_INFO"].endswith("/fail"):
        raise RuntimeError("no answer")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]


def ask(
    admission: LoadSheddingLayer, path: str, **headers: str
) -> tuple[str, dict[str, str], bytes]:
    """Send a request through the layer."""
    said: list[Any] = []
    environ = {"PATH_INFO": path, **headers}
    body = b"".join(admission(environ, lambda *arguments: said.extend(arguments)))  # type: ignore[arg-type]
    return said[0], dict(said[1]), body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/jobs", "/chains/a/invoke"])
def test_the_api_is_refused_in_its_own_shape(path: str) -> None:
    status, headers, body = ask(
        LoadSheddingLayer(application, full()), path, HTTP_X_REQUEST_ID="mine"
    )

    assert status == "503 Service Unavailable"
    assert json.loads(body)["error"]["code"] == "overloaded"
    assert headers["Retry-After"] == "1"
    assert headers["x-request-id"] == "mine"
    assert headers["x-headrace-limit"] == "0 0"
    assert int(headers["Content-Length"]) == len(body)


@pytest.mark.parametrize(
    "path", ["/health/ready", "/metrics", "/admin/", "/static/a.css", "/", "/v1/jobs/a/cancel"]
)
def test_operators_balancers_and_cancels_are_heard_all_the_same(path: str) -> None:
    assert ask(LoadSheddingLayer(application, full()), path)[0] == "200 OK"


def test_a_hostile_id_is_replaced() -> None:
    _, headers, _ = ask(
        LoadSheddingLayer(application, full()), "/v1/jobs", HTTP_X_REQUEST_ID="a\r\nb: c"
    )
    assert headers["x-request-id"].startswith("req_")


def test_there_is_no_header_for_the_balancer_without_overload() -> None:
    admission = LoadSheddingLayer(application, LoadShedder(target_seconds=0.1))
    assert ask(admission, "/v1/jobs") == ("200 OK", {"Content-Length": "4"}, b"done")


def test_a_request_that_fails_is_not_counted_for_ever() -> None:
    shedder = LoadShedder(target_seconds=0.1)
    with pytest.raises(RuntimeError):
        ask(LoadSheddingLayer(application, shedder), "/v1/fail")
    assert shedder.in_setup == 0


def test_a_hit_is_given_even_then() -> None:
    admission = LoadSheddingLayer(application, full(), lambda path, headers, body: HIT)
    assert admission.handle("/v1/chat/completions", PLAIN, b"{}") is HIT


def test_the_fast_path_refuses_api_requests_of_a_full_node() -> None:
    admission = LoadSheddingLayer(application, full(), lambda path, headers, body: None)
    refusal = admission.handle("/v1/chat/completions", PLAIN, b"{}")
    assert refusal is not None
    assert refusal.status.startswith("503")
    assert admission.handle("/health/ready", PLAIN, b"") is None


def test_the_balancer_learns_which_credentials_are_known() -> None:
    layer = LoadSheddingLayer(application, LoadShedder(target_seconds=0.1))
    CALLERS.remember("Bearer of-an-account", "account")

    _, known, _ = ask(layer, "/v1/jobs", HTTP_AUTHORIZATION="Bearer of-an-account")
    _, unknown, _ = ask(layer, "/v1/jobs", HTTP_AUTHORIZATION="Bearer of-nobody")

    assert known["x-headrace-known"] == "1"
    assert "x-headrace-known" not in unknown
