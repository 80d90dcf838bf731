"""`/v1/schema` and `/docs` come from memory, and clients need not fetch them twice."""

from __future__ import annotations

import httpx
import pytest

from config.api import schema_pages
from tests.stack_plugin import EmbeddedStack
from tests.support.lone_proxy import assert_envelope

PATHS = ("/v1/schema", "/docs", "/docs/script.js")


@pytest.mark.parametrize("path", PATHS)
def test_what_a_client_has_is_not_sent_again(nodes: list[httpx.Client], path: str) -> None:
    first = nodes[0].get(path)
    # On any node.
    second = nodes[1].get(path, headers={"if-none-match": first.headers["etag"]})

    assert (first.status_code, second.status_code) == (200, 304)
    assert first.headers["cache-control"] == "public, max-age=60"
    assert second.content == b""
    assert second.headers["etag"] == first.headers["etag"]
    assert nodes[0].head(path).headers["content-length"] == str(len(first.content))


def test_the_document_is_built_once() -> None:
    assert schema_pages.schema_page() is schema_pages.schema_page()


def test_a_client_leaves_no_trace_in_what_others_get(nodes: list[httpx.Client]) -> None:
    query = {"lang": "evil-1", "version": "evil-2", "schema_url": "evil-3"}
    for path in PATHS:
        hostile = nodes[0].get(path, params=query, headers={"x-forwarded-host": "evil-4"})
        assert hostile.status_code == 200
        assert b"evil" not in hostile.content
        assert nodes[0].get(path).content == hostile.content


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused(stack: EmbeddedStack, path: str) -> None:
    answer = httpx.post(f"{stack.url}{path}")
    options = httpx.options(f"{stack.url}{path}")

    assert_envelope(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == options.headers["allow"] == "GET, HEAD, OPTIONS"
    assert options.status_code == 200
