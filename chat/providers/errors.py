"""Classify any provider's exception by the SDKs' common attributes.

The OpenAI, Anthropic, Google and Mistral SDKs and plain httpx all put the status in `status_code`
or `response.status_code`; connection faults and timeouts have such class names in all of them.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

from chat.errors import OversizedAnswer, ProviderError, UnreadableAnswer
from chat.providers.wire import AnswerTooLarge

# Codes that a client can act on, passed on by name, without the provider's text.
KNOWN_REQUEST_FAULTS = {
    "context_length_exceeded": "The messages are longer than the model's context.",
    "string_above_max_length": "A message is longer than the model allows.",
    "content_filter": "The provider's content filter refused the messages.",
    "content_policy_violation": "The provider's content filter refused the messages.",
}


def to_provider_error(error: Exception) -> ProviderError | None:
    """Return the client's view of a provider's exception, or None when it is not one."""
    if isinstance(error, ProviderError):
        return error
    # SDKs wrap any exception that reading an answer raises in an error of their own.
    for source in (error, error.__cause__, error.__context__):
        if isinstance(source, AnswerTooLarge):
            return OversizedAnswer(source.setting)
    status = _status_of(error)
    if status is not None and status < 400:
        # The SDK could not read the answer, which came with a good status.
        return UnreadableAnswer()
    if status is not None:
        return _from_status(status, error)
    names = {cls.__name__ for cls in type(error).__mro__}
    if any("Timeout" in name for name in names):
        return ProviderError(
            504,
            "The model provider did not answer in time.",
            code="provider_timeout",
            is_transient=True,
        )
    is_connection = isinstance(error, ConnectionError | socket.gaierror | ssl.SSLError)
    if is_connection or names & {"APIConnectionError", "TransportError", "ConnectError"}:
        return ProviderError(
            502,
            "The model provider could not be reached.",
            code="provider_unreachable",
            is_transient=True,
        )
    if "APIError" in names:
        # The OpenAI SDK raises this for an error inside a stream that had begun.
        return ProviderError(502, "The model provider failed.", code="provider_error")
    return None


def _from_status(status: int, error: Exception) -> ProviderError:
    if status == 429:
        return ProviderError(
            503,
            "The model provider is busy; try again shortly.",
            code="provider_overloaded",
            is_transient=True,
            retry_after_seconds=_retry_after_of(error) or 1.0,
        )
    if status in (408, 504):
        return ProviderError(
            504,
            "The model provider did not answer in time.",
            code="provider_timeout",
            is_transient=True,
        )
    if status >= 500 or status == 409:
        return ProviderError(
            502,
            "The model provider failed.",
            code="provider_error",
            is_transient=True,
            retry_after_seconds=_retry_after_of(error),
        )
    if status in (401, 402, 403, 404):
        # Our key or model name is wrong; another model's may be right.
        return ProviderError(
            502,
            "The model provider refused this chain's credentials or model name.",
            code="provider_misconfigured",
            should_retry=False,
        )
    code = _code_of(error)
    return ProviderError(
        400,
        KNOWN_REQUEST_FAULTS.get(code, "The model provider refused the request as invalid."),
        code=code if code in KNOWN_REQUEST_FAULTS else "provider_rejected_request",
        is_request_at_fault=True,
    )


def _status_of(error: Exception) -> int | None:
    for source in (error, getattr(error, "response", None)):
        status = getattr(source, "status_code", None)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return None


def _retry_after_of(error: Exception) -> float | None:
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    # A NaN or a negative number fails the comparison and is ignored.
    return min(seconds, 3600.0) if seconds > 0 else None


def _code_of(error: Exception) -> str:
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    # llama.cpp's server names this one fault by `type` alone.
    kind = getattr(error, "type", None)
    return "context_length_exceeded" if kind == "exceed_context_size_error" else ""
