"""The failures of a call, as chat/providers/errors.py classifies them: by status, or by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chat.providers.errors import KNOWN_REQUEST_FAULTS

# Statuses of errors that come without one, inside an answer that began with 200.
STATUS_OF_KIND = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "exceed_context_size_error": 400,
    **dict.fromkeys(KNOWN_REQUEST_FAULTS, 400),
}


class ProviderResponseError(Exception):
    """A provider answered with an error.

    `status_code` is that of the response, or of the error in a response of status 200. Its text has
    no part of the provider's, which may hold keys and prompts; `message` has it, to be classified.
    """

    def __init__(
        self, status_code: int, fault: Mapping[str, Any], headers: Mapping[str, str]
    ) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.code = fault.get("code")
        self.type = fault.get("type")
        self.param = fault.get("param")
        self.message = fault.get("message")
        self.headers = headers


class Unreachable(ConnectionError):
    """No connection to the provider, or it broke before the answer was complete."""


class ConnectTimeout(TimeoutError):
    """No connection within PROVIDER_CONNECT_SECONDS."""


class SilenceTimeout(TimeoutError):
    """No further token within PROVIDER_SILENCE_SECONDS."""


class TotalTimeout(TimeoutError):
    """The answer was not complete within the chain's time."""


def fault_in(body: Any) -> Mapping[str, Any] | None:
    """Return the error that a JSON body holds, in the shape of any server, as a mapping."""
    # Gemini's compatible API wraps it in a list.
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:
        return {**body, "message": error}
    # Older servers of vLLM, and Mistral's, have no envelope.
    return body if body.get("object") == "error" else None


def error_in_answer(fault: Mapping[str, Any], headers: Mapping[str, str]) -> ProviderResponseError:
    """Return the exception for an error inside an answer that began with status 200."""
    for value in (fault.get("code"), fault.get("status"), fault.get("status_code")):
        number = (
            int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        )
        if isinstance(number, int) and 400 <= number <= 599:
            return ProviderResponseError(number, fault, headers)
    kinds = (fault.get("code"), fault.get("type"))
    status = next(
        (STATUS_OF_KIND[k] for k in kinds if isinstance(k, str) and k in STATUS_OF_KIND), 500
    )
    return ProviderResponseError(status, fault, headers)
