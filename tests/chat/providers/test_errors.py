"""Any provider's exception, read without its text."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import httpx
import openai
import pytest

from chat.errors import ProviderError
from chat.providers.errors import to_provider_error

SECRET = "sk-never-shown"


class SdkError(Exception):
    """Looks like the errors of most SDKs."""

    def __init__(self, status: Any, *, headers: Any = None, code: Any = None, kind: Any = None):
        super().__init__(f"key {SECRET}")
        self.status_code = status
        self.code = code
        self.type = kind
        self.response = type("Response", (), {"headers": headers, "status_code": status})()


class FancyTimeoutError(Exception):
    """Some SDK's own timeout."""


class APIConnectionError(Exception):
    """Some SDK's own connection fault."""


@pytest.mark.parametrize(
    ("upstream", "status", "is_transient", "is_request_at_fault"),
    [
        (400, 400, False, True),
        (401, 502, False, False),
        (402, 502, False, False),
        (403, 502, False, False),
        (404, 502, False, False),
        (408, 504, True, False),
        (409, 502, True, False),
        (413, 400, False, True),
        (422, 400, False, True),
        (429, 503, True, False),
        (500, 502, True, False),
        (502, 502, True, False),
        (503, 502, True, False),
        (504, 504, True, False),
        (529, 503, True, False),
        (200, 502, False, False),
    ],
)
def test_a_status_decides_about_retries_and_fallbacks(
    upstream: int, status: int, is_transient: bool, is_request_at_fault: bool
) -> None:
    error = to_provider_error(SdkError(upstream))
    assert error is not None
    assert error.status == status
    assert error.is_transient is is_transient
    assert error.is_request_at_fault is is_request_at_fault
    assert SECRET not in str(error.body) + str(error)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError(), 504),
        (FancyTimeoutError(), 504),
        (httpx.ReadTimeout("x"), 504),
        (ConnectionRefusedError(), 502),
        (ConnectionResetError(), 502),
        (socket.gaierror(), 502),
        (ssl.SSLError(), 502),
        (APIConnectionError(), 502),
        (httpx.ConnectError("x"), 502),
        (httpx.RemoteProtocolError("x"), 502),
        (openai.APIError("x", httpx.Request("GET", "http://x"), body=None), 502),  # type: ignore[arg-type]
    ],
)
def test_a_fault_without_a_status_is_known_by_its_class(error: Exception, status: int) -> None:
    found = to_provider_error(error)
    assert found is not None
    assert found.status == status


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError("x"),
        SdkError("429"),
        SdkError(True),
        SdkError(None),
        FileNotFoundError(),
        RuntimeError(),
    ],
)
def test_what_is_no_providers_fault_is_not_taken_for_one(error: Exception) -> None:
    assert to_provider_error(error) is None


def test_an_error_already_read_stays_as_it_is() -> None:
    error = ProviderError(502, "x", code="y")
    assert to_provider_error(error) is error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.25", 0.25),
        ("1e9", 3600.0),
        ("0", 1.0),
        ("-5", 1.0),
        ("nan", 1.0),
        ("inf", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("soon", 1.0),
        ("", 1.0),
        (None, 1.0),
    ],
)
def test_a_busy_providers_wish_is_read_within_reason(header: str | None, seconds: float) -> None:
    headers = {} if header is None else {"retry-after": header}
    error = to_provider_error(SdkError(429, headers=headers))
    assert error is not None
    assert error.retry_after_seconds == seconds


def test_headers_that_are_none_are_no_error() -> None:
    assert to_provider_error(SdkError(503, headers="odd")) is not None


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("context_length_exceeded", None, "context_length_exceeded"),
        ("content_filter", None, "content_filter"),
        (None, "exceed_context_size_error", "context_length_exceeded"),
        (SECRET, SECRET, "provider_rejected_request"),
        (5, None, "provider_rejected_request"),
        (["x"], None, "provider_rejected_request"),
    ],
)
def test_only_known_codes_are_passed_on(code: Any, kind: Any, expected: str) -> None:
    error = to_provider_error(SdkError(400, code=code, kind=kind))
    assert error is not None
    assert error.code == expected
    assert SECRET not in str(error.body)
