"""Every exception as one envelope."""

from __future__ import annotations

import json
import logging
from typing import Any

import psycopg
import psycopg_pool
import pytest
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
)
from django.db import (
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.http import Http404, HttpRequest, UnreadablePostError
from django.test import Client
from rest_framework import exceptions

from config.api import errors
from config.api.errors import ApiError, InvalidRequest, NotFound, to_api_error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError(418, "tea", code="teapot"), 418, "teapot"),
        (InvalidRequest("bad"), 400, None),
        (NotFound("gone", code="x_not_found"), 404, "x_not_found"),
        (Http404("secret path"), 404, "not_found"),
        (PermissionDenied("secret"), 403, "permission_denied"),
        (RequestDataTooBig("x"), 413, "body_too_large"),
        (TooManyFieldsSent("x"), 400, None),
        (UnreadablePostError("x"), 499, "client_closed_request"),
        # Only a body's own delay is the client's; any other is ours.
        (TimeoutError("x"), 500, "internal_error"),
        (BadRequest("secret"), 400, None),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.UnsupportedMediaType("x/y"), 415, "unsupported_media_type"),
        (exceptions.NotAuthenticated(), 401, "not_authenticated"),
        (exceptions.Throttled(5), 429, "throttled"),
        (OperationalError("password=secret"), 503, "database_unavailable"),
        (InterfaceError("secret"), 503, "database_unavailable"),
        (psycopg_pool.PoolTimeout("secret"), 503, "database_unavailable"),
        (psycopg_pool.PoolClosed("secret"), 503, "database_unavailable"),
        (ProgrammingError("secret"), 500, "internal_error"),
        (RuntimeError("secret"), 500, "internal_error"),
        (KeyError("secret"), 500, "internal_error"),
    ],
)
def test_every_exception_is_an_error_that_may_be_shown(
    error: Exception, status: int, code: str | None
) -> None:
    found = to_api_error(error)
    assert (found.status, found.code) == (status, code)
    assert set(found.body["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in str(found.body)


def test_an_absent_database_is_503_with_retry_after() -> None:
    assert int(to_api_error(OperationalError("x")).headers["Retry-After"]) >= 1


def test_a_query_that_ran_too_long_is_our_fault() -> None:
    error = OperationalError("canceling statement due to statement timeout")
    error.__cause__ = psycopg.errors.QueryCanceled()
    assert to_api_error(error).status == 500


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_no_longer_the_primary_is_waited_for() -> None:
    """It was one a moment ago, and this process has not heard yet that another one is."""

    def write() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute("DELETE FROM django_session")

    with pytest.raises(InternalError) as caught:
        write()

    assert to_api_error(caught.value).code == "database_unavailable"


def test_an_unexpected_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        to_api_error(RuntimeError("the reason"))
    assert caplog.records[0].exc_info is not None
    # An error's text may repeat a prompt (config.logs).
    assert "RuntimeError" in caplog.text
    assert "the reason" not in caplog.text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "conflict_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_each_status_has_a_type(status: int, kind: str) -> None:
    assert ApiError(status, "x").type == kind


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (60.0, "60")]
)
def test_a_wait_is_rounded_up_to_seconds(seconds: float, header: str) -> None:
    assert ApiError(429, "x", retry_after_seconds=seconds).headers["Retry-After"] == header


def test_headers_are_sent_only_when_they_say_something() -> None:
    assert ApiError(500, "x").headers == {}
    error = ApiError(500, "x", should_retry=False, headers={"a": "b"})
    assert error.headers == {"a": "b", "x-should-retry": "false"}


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda request: errors.not_found(request, Exception()), 404),
        (errors.server_error, 500),
        (lambda request: errors.bad_request(request, Exception()), 400),
        (lambda request: errors.permission_denied(request, Exception()), 403),
    ],
)
def test_errors_outside_the_api_have_the_same_shape(handler: Any, status: int) -> None:
    response = handler(HttpRequest())
    assert response.status_code == status
    assert set(json.loads(response.content)["error"]) == {"message", "type", "param", "code"}


def test_a_wrong_host_is_a_400_in_the_same_shape() -> None:
    response = Client().get("/admin/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "error" in response.json()
