"""Bodies of chat completions that are larger than others may be."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.provider import Provider
from tests.support.calls import error_of

CHAT = "/v1/chat/completions"
MIB = 1024 * 1024
HEADERS = {"Content-Type": "application/json"}


def image(size: int) -> dict[str, Any]:
    """Return a part of so many bytes of base64."""
    return {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "QUJD" * (size // 4)},
    }


def body(*parts: Any, chain: str = "provider-hello", **more: Any) -> bytes:
    """Return a request."""
    messages = [{"role": "user", "content": list(parts)}]
    return json.dumps({"model": chain, "messages": messages, **more}).encode()


def test_images_may_be_larger_than_a_body_of_text(http: httpx.Client, provider: Provider) -> None:
    name = "a large image"
    parts = [{"type": "text", "text": name}, image(7 * MIB), image(7 * MIB)]
    for chain in ("provider-hello", "cached"):
        response = http.post(CHAT, content=body(*parts, chain=chain), headers=HEADERS)
        assert response.status_code in (200, 502), response.text[:300]
    call = next(call for call in provider.calls if name in str(call.body["messages"][-1])[:300])
    assert call.body["messages"][-1]["content"] == parts


@pytest.mark.parametrize(
    ("content", "status", "code", "setting"),
    [
        (lambda: body({"type": "text", "text": "x" * 5 * MIB}), 413, "body_too_large", "MAX_BODY_"),
        (lambda: body({"type": "text", "text": "QUJD" * 2 * MIB}), 413, None, "MAX_BODY_BYTES"),
        (lambda: body(image(8 * MIB), user="x" * 5 * MIB), 413, None, "MAX_BODY_BYTES"),
        (lambda: body("x", metadata=[[]] * 2_000_000), 413, "body_too_large", "MAX_BODY_BYTES"),
        (lambda: body(image(8 * MIB), metadata=[0] * 60_000), 400, None, "MAX_JSON_ITEMS"),
        (lambda: body(image(17 * MIB)), 400, "too_much_media", "MAX_MEDIA_BYTES"),
        (lambda: body(*[image(20_000)] * 51 * 5), 400, "too_much_media", "MAX_MEDIA_PARTS"),
        (
            lambda: body(image(5 * MIB), {"type": "text", "text": "x" * MIB}),
            400,
            None,
            "MAX_CONTENT",
        ),
    ],
)
def test_what_else_a_large_body_holds_is_bounded_as_before(
    http: httpx.Client, content: Any, status: int, code: str | None, setting: str
) -> None:
    response = http.post(CHAT, content=content(), headers=HEADERS)
    error = error_of(response, status, code or response.json()["error"]["code"])
    assert setting in error["message"] or "1000000" in error["message"]
    assert len(response.content) < 1000


def test_a_body_beyond_the_limit_of_media_is_refused_at_the_proxy_and_at_a_node(
    http: httpx.Client, node_urls: list[str]
) -> None:
    content = body(image(20 * MIB))
    error_of(http.post(CHAT, content=content, headers=HEADERS), 413, "body_too_large")
    response = httpx.post(
        f"{node_urls[0]}{CHAT}",
        content=content,
        headers={**HEADERS, "Authorization": http.headers["Authorization"]},
        timeout=30,
    )
    assert "MAX_MEDIA_BODY_BYTES" in error_of(response, 413, "body_too_large")["message"]


def test_in_chunks_or_at_another_address_the_limit_is_that_of_other_bodies(
    http: httpx.Client,
) -> None:
    content = body(image(5 * MIB))
    chunks = (content[at : at + MIB] for at in range(0, len(content), MIB))
    error_of(http.post(CHAT, content=chunks, headers=HEADERS), 413, "body_too_large")
    for path in ("/chains/provider-hello/invoke", "/v1/conversations", "/v1/jobs"):
        error_of(http.post(path, content=content, headers=HEADERS), 413, "body_too_large")


@pytest.mark.parametrize("at", [0, 3 * MIB, -8, -1])
def test_long_base64_is_checked_to_its_end(http: httpx.Client, at: int) -> None:
    part = image(6 * MIB)
    text = list(part["image_url"]["url"])
    text[at if at < 0 else len(text) - 6 * MIB + at] = "=" if at == 3 * MIB else "!"
    part["image_url"]["url"] = "".join(text)
    error = error_of(http.post(CHAT, content=body(part), headers=HEADERS), 400, None)
    assert error["param"] == "messages.0.content.0.image_url.url"
