"""Which origins' pages may read answers in a browser."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.support.lone_proxy import LoneProxy, assert_envelope

APP = "https://app.example.org"
ALLOW = "access-control-allow-origin"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


@pytest.fixture
def cors(make_proxy: Callable[..., LoneProxy]) -> LoneProxy:
    """A HAProxy that allows two origins."""
    return make_proxy(CORS_ALLOWED_ORIGINS=f"{APP} http://localhost:5173", PROXY_QUEUE="1")


def test_an_allowed_origin_can_read_answers_and_errors(cors: LoneProxy) -> None:
    unavailable = httpx.get(f"{cors.url}/v1/models", headers={"origin": APP})
    cors.add_node()
    answer = httpx.get(f"{cors.url}/v1/models", headers={"origin": APP})
    local = httpx.get(f"{cors.url}/chains/a", headers={"origin": "http://localhost:5173"})
    too_long = httpx.get(f"{cors.url}/v1/{'x' * 9000}", headers={"origin": APP})

    assert_envelope(unavailable, 503, "service_unavailable")
    assert_envelope(too_long, 414, "uri_too_long")
    for one in (unavailable, answer, too_long):
        assert one.headers.get_list(ALLOW) == [APP]
        assert one.headers["access-control-expose-headers"] == "*"
        assert one.headers["vary"] == "origin"
    assert local.headers[ALLOW] == "http://localhost:5173"


def test_an_allowed_origin_can_read_a_refusal_for_floods(
    make_proxy: Callable[..., LoneProxy],
) -> None:
    lone = make_proxy(
        CORS_ALLOWED_ORIGINS=APP, PROXY_ADDRESS_REQUESTS="1", PROXY_UNLIMITED_ADDRESSES="192.0.2.1"
    )
    lone.add_node()
    answers = [httpx.get(f"{lone.url}/v1/models", headers={"origin": APP}) for _ in range(3)]

    assert_envelope(answers[-1], 429, "rate_limited")
    assert answers[-1].headers[ALLOW] == APP


def test_a_stream_can_be_read(cors: LoneProxy) -> None:
    cors.add_node()
    with httpx.stream("GET", f"{cors.url}/v1/stream", headers={"origin": APP}) as answer:
        assert answer.headers[ALLOW] == APP


def test_a_preflight_needs_neither_key_nor_node(cors: LoneProxy) -> None:
    node = cors.add_node()
    answer = httpx.options(f"{cors.url}/v1/chat/completions", headers={"origin": APP, **PREFLIGHT})

    assert answer.status_code == 204
    assert answer.headers[ALLOW] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization, *"
    assert node.requests == []


OTHERS = [
    "https://evil.example",
    "https://app.example.org.evil.example",
    "https://app.example.org:8443",
    "http://app.example.org",
    "HTTPS://APP.EXAMPLE.ORG",
    "null",
    "*",
    f"{APP}, https://evil.example",
    f"{APP} http://localhost:5173",
    "",
]


def test_other_origins_get_nothing(cors: LoneProxy) -> None:
    cors.add_node()
    for origin in OTHERS:
        for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
            answer = httpx.request(
                method, f"{cors.url}/v1/echo", headers={"origin": origin, **headers}
            )
            assert answer.status_code == 200, origin
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.headers["vary"] == "origin"


def test_what_is_not_the_api_gets_nothing(cors: LoneProxy) -> None:
    cors.add_node()
    for path in ("/admin/", "/docs", "/static/a.css", "/health/ready"):
        answer = httpx.get(f"{cors.url}{path}", headers={"origin": APP})
        assert ALLOW not in answer.headers


def test_it_is_off_by_default(lone: LoneProxy) -> None:
    lone.add_node()
    answer = httpx.get(f"{lone.url}/v1/models", headers={"origin": APP})

    assert ALLOW not in answer.headers
    assert "vary" not in answer.headers


def test_any_origin_is_no_setting(make_proxy: Callable[..., LoneProxy]) -> None:
    with pytest.raises(AssertionError, match="HAProxy ended at once"):
        make_proxy(CORS_ALLOWED_ORIGINS="*")
