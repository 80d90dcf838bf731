"""The prefixes of the API's paths cover every route of the API, and no page."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver

from chat.running.api_view import ApiView
from config.api.paths import API_PREFIXES, CHAINS, COMPLETIONS, JOBS


def routes(resolver: URLResolver, prefix: str = "/") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry, path)
        else:
            yield path, entry


def is_api(entry: URLPattern) -> bool:
    view = getattr(entry.callback, "view_class", None) or getattr(entry.callback, "cls", None)
    return isinstance(view, type) and issubclass(view, ApiView)


def test_every_api_view_is_below_a_prefix() -> None:
    found = [path for path, entry in routes(get_resolver()) if is_api(entry)]
    assert len(found) > 20
    assert [path for path in found if not path.startswith(API_PREFIXES)] == []


def test_named_paths_are_routes() -> None:
    paths = [path for path, _ in routes(get_resolver())]
    assert {COMPLETIONS, JOBS} <= set(paths)
    assert any(path.startswith(CHAINS) for path in paths)


def test_no_page_is_below_a_prefix() -> None:
    pages = [path for path, _ in routes(get_resolver()) if path.startswith("/admin/")]
    assert pages
    assert not any(path.startswith(API_PREFIXES) for path in pages)
