"""The middleware of all requests, API and admin alike."""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from config.api.errors import error_response, is_database_down, to_api_error
from config.api.ids import new_uuid
from node.draining import DRAINING

# The id of the request that this greenlet, and those it starts, work for.
current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# HAProxy sets the id; a node called directly may get anything.
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


def request_id_of(given: str) -> str:
    """Return the id that a request came with if it is well formed, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else f"req_{new_uuid().hex}"


class RequestIdMiddleware:
    """Sets every request's id, returns it as `x-request-id`, and sets `Content-Length`.

    Without a length gunicorn would send an API's answer in chunks.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Use a well-formed id from the load balancer, else make one."""
        request_id = request_id_of(request.META.get("HTTP_X_REQUEST_ID", ""))
        current_request_id.set(request_id)
        response = self.get_response(request)
        response.headers["x-request-id"] = request_id
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
            if request.method == "HEAD":
                response.content = b""
        return response


class RequestIdFilter(logging.Filter):
    """Adds the request's id to every line of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for every record."""
        record.request_id = current_request_id.get()
        return True


class DrainedFilter(logging.Filter):
    """Drops the log lines of a draining node's readiness.

    Nothing is wrong then, and each check of the load balancer, two a second, would be an error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for all other records."""
        path = getattr(getattr(record, "request", None), "path", "")
        return not (DRAINING.is_on and path == "/health/ready")


class ServiceUnavailableMiddleware:
    """Answers 503 with `Retry-After`, also outside the API, while the database is unavailable."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on; Django calls `process_exception` when a view raises."""
        return self.get_response(request)

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer an unavailable database; leave all other errors to Django."""
        if is_database_down(exception):
            return error_response(to_api_error(exception))
        return None
