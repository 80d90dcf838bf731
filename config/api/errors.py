"""The one shape in which every error leaves: OpenAI's envelope.

`{"error": {"message", "type", "param", "code"}}` with the right status, and `Retry-After` where
waiting helps. Apps raise `ApiError` or a subclass of it; everything else is turned into one here.
"""

import logging
import math
from typing import Any

import psycopg
import psycopg_pool
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response

logger = logging.getLogger(__name__)

# OpenAI's `type` for a status; the SDKs choose their exception class by the status alone.
TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An error that a client may see.

    `message` must be safe to show: no provider text, no path, no SQL. `code` is a stable word for
    programs. `retry_after_seconds` becomes `Retry-After` (rounded up) and says that the same
    request may succeed later; `should_retry` False tells SDKs not to retry a 409 or 5xx.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = should_retry
        self.extra_headers = headers or {}

    @property
    def type(self) -> str:
        """OpenAI's word for this class of error."""
        if self.status in TYPE_BY_STATUS:
            return TYPE_BY_STATUS[self.status]
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def body(self) -> dict[str, Any]:
        """The envelope, ready for JSON."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """The response headers that go with the error."""
        headers = dict(self.extra_headers)
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        if self.should_retry is not None:
            headers["x-should-retry"] = str(self.should_retry).lower()
        return headers


class InvalidRequest(ApiError):
    """The request can never succeed as it is."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(status, message, param=param, code=code)


class NotFound(ApiError):
    """There is no such thing, or it belongs to another account: the two look the same."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(404, message, code=code, param=param)


class DeletedMeanwhile(ApiError):
    """The account or chain of the request was deleted after it was looked up."""

    def __init__(self) -> None:
        super().__init__(
            409,
            "The account or the chain of this request was deleted during it.",
            code="deleted_meanwhile",
            should_retry=False,
        )


# Exceptions that Django raises for a request's own faults.
DJANGO_ERRORS: list[tuple[type[Exception], ApiError]] = [
    (Http404, NotFound("There is no resource at this address.", code="not_found")),
    (PermissionDenied, ApiError(403, "This is not allowed.", code="permission_denied")),
    (RequestDataTooBig, ApiError(413, "The request body is too large.", code="body_too_large")),
    (BadRequest, InvalidRequest("The request could not be read.")),
    (SuspiciousOperation, InvalidRequest("The request could not be read.")),
]


def to_api_error(error: BaseException) -> ApiError:
    """Return the error a client may see for any exception; unexpected ones are logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnreadablePostError):
        if isinstance(error.__cause__, TimeoutError):
            return ApiError(408, "The request body did not arrive in time.", code="request_timeout")
        return ApiError(499, "The client disconnected.", code="client_closed_request")
    for kind, api_error in DJANGO_ERRORS:
        if isinstance(error, kind):
            return api_error
    if isinstance(error, exceptions.APIException):
        return _from_rest_framework(error)
    # Keys and chains are remembered for a moment, and their rows may be gone.
    if isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation):
        return DeletedMeanwhile()
    if is_database_down(error):
        logger.warning("database unavailable: %s", error)
        return ApiError(
            503,
            "The database is unavailable; try again shortly.",
            code="database_unavailable",
            retry_after_seconds=2,
        )
    logger.error("unexpected error", exc_info=error)
    return ApiError(500, "Something went wrong on our side.", code="internal_error")


def is_database_down(error: BaseException) -> bool:
    """Return whether waiting may cure this database error: no server, or no free connection.

    Or a server that was the primary a moment ago, and takes no writes any more.
    """
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return True
    if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    # A query that ran too long is our fault, not the server's absence.
    return not isinstance(error.__cause__, psycopg.errors.QueryCanceled)


def error_response(error: ApiError) -> JsonResponse:
    """Return the envelope as a plain Django response, for code outside REST framework."""
    return JsonResponse(error.body, status=error.status, headers=error.headers)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Turn any exception of a REST framework view into the envelope."""
    api_error = to_api_error(error)
    return Response(api_error.body, status=api_error.status, headers=api_error.headers)


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer an unknown address (Django's handler404)."""
    return error_response(to_api_error(Http404()))


def server_error(request: HttpRequest) -> JsonResponse:
    """Answer an exception outside REST framework (Django's handler500)."""
    return error_response(ApiError(500, "Something went wrong on our side.", code="internal_error"))


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer a request that Django refuses, as a wrong Host header (Django's handler400)."""
    return error_response(InvalidRequest("The request could not be read."))


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer a refusal outside REST framework (Django's handler403)."""
    return error_response(to_api_error(PermissionDenied()))


def _from_rest_framework(error: exceptions.APIException) -> ApiError:
    if isinstance(error, exceptions.UnsupportedMediaType):
        return ApiError(
            415, "Send application/json with a Content-Type header.", code="unsupported_media_type"
        )
    auth_header = getattr(error, "auth_header", None)
    return ApiError(
        error.status_code,
        error.detail if isinstance(error.detail, str) else str(error.default_detail),
        code=str(error.default_code),
        headers={"WWW-Authenticate": auth_header} if auth_header else None,
    )
