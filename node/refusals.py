"""The responses of WSGI layers that refuse a request in front of Django."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import orjson

from config.api.errors import ApiError
from node.fast_path import FastResponse
from node.middleware import request_id_of


def refusal(
    error: ApiError, request_id: str, headers: Iterable[tuple[str, str]] = ()
) -> FastResponse:
    """Return an error as a response, with the request's id, or a new one for a malformed id."""
    body = orjson.dumps(error.body)
    return FastResponse(
        f"{error.status} {HTTPStatus(error.status).phrase}",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("x-request-id", request_id_of(request_id)),
            *error.headers.items(),
            *headers,
        ],
        body,
    )
