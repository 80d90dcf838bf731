"""`GET /v1/schema` and `/docs`: built once by each process, and served from memory.

Building the document takes some 40 ms of processor, and needs no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

from config.api.errors import ApiError, error_response

ALLOW = "GET, HEAD, OPTIONS"
SCRIPT_PATH = "/docs/script.js"
# HAProxy caches the document for so long, too.
CACHE_CONTROL = "public, max-age=60"


class Page(NamedTuple):
    """A response that is the same for every client."""

    body: bytes
    headers: dict[str, str]
    etag: str


class SchemaView(SpectacularAPIView):
    """The OpenAPI 3.1 document, as JSON."""

    renderer_classes = [OpenApiJsonRenderer]


class DocsView(SpectacularSwaggerSplitView):
    """The page that shows the document; with `?script` its script, as pages have none inside."""

    url_name = "schema"
    url_self = SCRIPT_PATH

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return it without a CSRF token, which would be one for all; the API needs none."""
        response: Response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        response.data["csrf_token"] = ""
        return response


@cache
def schema_page() -> Page:
    """Return the OpenAPI document."""
    return _build(SchemaView.as_view(), "/v1/schema")


@cache
def docs_page() -> Page:
    """Return the page that shows the document."""
    return _build(DocsView.as_view(), "/docs")


@cache
def docs_script_page() -> Page:
    """Return the script of that page."""
    return _build(DocsView.as_view(), SCRIPT_PATH, query="script")


def warm_up() -> None:
    """Build the document, so that no request has to."""
    schema_page()


@csrf_exempt
def schema(request: HttpRequest) -> HttpResponseBase:
    """Answer `/v1/schema`."""
    return _answer(request, schema_page)


@csrf_exempt
def docs(request: HttpRequest) -> HttpResponseBase:
    """Answer `/docs`."""
    return _answer(request, docs_page)


@csrf_exempt
def docs_script(request: HttpRequest) -> HttpResponseBase:
    """Answer `/docs/script.js`."""
    return _answer(request, docs_script_page)


def _build(view: Callable[[HttpRequest], Response], path: str, query: str = "") -> Page:
    # A client's own request must leave no trace in what others get.
    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = path
    request.GET = QueryDict(query)
    request.META = {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}
    response = view(request)
    response.render()
    if response.status_code != HTTPStatus.OK:
        raise ImproperlyConfigured(f"{path} cannot be built; was `collectstatic` run?")
    body = bytes(response.content)
    kept = ("Content-Type", "Content-Disposition", "Cross-Origin-Opener-Policy")
    headers = {name: response.headers[name] for name in kept if name in response.headers}
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Page(body, {**headers, "Cache-Control": CACHE_CONTROL, "ETag": etag}, etag)


def _answer(request: HttpRequest, page: Callable[[], Page]) -> HttpResponseBase:
    if request.method == "OPTIONS":
        return HttpResponse(headers={"Allow": ALLOW})
    if request.method not in {"GET", "HEAD"}:
        error = ApiError(
            405,
            f'Method "{request.method}" not allowed.',
            code="method_not_allowed",
            headers={"Allow": ALLOW},
        )
        return error_response(error)
    body, headers, etag = page()
    response = HttpResponse(body, headers=headers)
    return get_conditional_response(request, etag=etag, response=response) or response
