"""Classify any provider's exception by the SDKs' common attributes.

The OpenAI, Anthropic, Google and Mistral SDKs and plain httpx all put the status in `status_code`
or `response.status_code`; connection faults and timeouts have such class names in all of them.
"""

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from chat.errors import OversizedAnswer, ProviderError, UnreadableAnswer
from chat.providers.wire import AnswerTooLarge

QUOTA_CODE = "insufficient_quota"
CONTEXT_CODE = "context_length_exceeded"
NOT_IN_TIME = "The model provider did not answer in time."
# Of servers that have no code for it: vLLM, SGLang, TGI, Mistral, Gemini, Groq.
CONTEXT_PHRASES = (
    "maximum context length",
    "context length exceeded",
    "exceeds the context",
    "exceed context",
    "longer than the maximum model length",
    "longer than the model's context",
    "exceeds the maximum number of tokens",
    "too large for model with",
    "reduce the length of the messages",
)
# Codes that a client can act on, passed on by name, without the provider's text.
KNOWN_REQUEST_FAULTS = {
    "context_length_exceeded": "The messages are longer than the model's context.",
    "string_above_max_length": "A message is longer than the model allows.",
    "content_filter": "The provider's content filter refused the messages.",
    "content_policy_violation": "The provider's content filter refused the messages.",
}


class FirstTokenTimeout(TimeoutError):
    """No token within PROVIDER_FIRST_TOKEN_SECONDS; a fallback model is quicker than a retry."""


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
    if isinstance(error, FirstTokenTimeout):
        # Another attempt at the same model would be as silent; a fallback model may not.
        return ProviderError(504, NOT_IN_TIME, code="provider_timeout")
    names = {cls.__name__ for cls in type(error).__mro__}
    if any("Timeout" in name for name in names):
        return ProviderError(
            504,
            NOT_IN_TIME,
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
    if status in (402, 429) and QUOTA_CODE in (_text(error, "code"), _text(error, "type")):
        # No attempt helps until somebody pays; another model's account may have credit.
        return _misconfigured()
    if status in (429, 529):
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
            NOT_IN_TIME,
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
        return _misconfigured()
    code = _fault_code(status, error)
    return ProviderError(
        400,
        KNOWN_REQUEST_FAULTS.get(code, "The model provider refused the request as invalid."),
        code=code if code in KNOWN_REQUEST_FAULTS else "provider_rejected_request",
        is_request_at_fault=True,
    )


def _misconfigured() -> ProviderError:
    return ProviderError(
        502,
        "The model provider refused this chain's credentials, quota or model name.",
        code="provider_misconfigured",
        should_retry=False,
    )


def _status_of(error: Exception) -> int | None:
    for source in (error, getattr(error, "response", None)):
        status = getattr(source, "status_code", None)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return None


def _retry_after_of(error: Exception) -> float | None:
    """Return the pause that a provider wants, in seconds, within reason."""
    headers: Any = getattr(error, "headers", None)
    if headers is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    value = next((str(v) for k, v in headers.items() if str(k).lower() == "retry-after"), "")
    seconds = _seconds(value)
    # A NaN or a negative number fails the comparison and is ignored.
    return min(seconds, 3600.0) if seconds > 0 else None


def _seconds(value: str) -> float:
    """Return a Retry-After's seconds, from either form (RFC 9110, 10.2.3); 0 for none."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def _fault_code(status: int, error: Exception) -> str:
    """Return the code of a refused request, "" for none that is known.

    Servers name a context that is too short in four ways: by OpenAI's code, by a type of their own
    (llama.cpp), by words alone (vLLM and others), and by the status (413).
    """
    code = _text(error, "code")
    if code in KNOWN_REQUEST_FAULTS:
        return code
    if _text(error, "type") == "exceed_context_size_error" or status == 413:
        return CONTEXT_CODE
    words = _text(error, "message").lower()
    if any(phrase in words for phrase in CONTEXT_PHRASES):
        return CONTEXT_CODE
    return ""


def _text(error: Exception, name: str) -> str:
    """Return an attribute of an SDK's exception, or the member of its body with that name."""
    value = getattr(error, name, None)
    body = getattr(error, "body", None)
    if not isinstance(value, str) and isinstance(body, Mapping):
        value = body.get(name)
    return value if isinstance(value, str) else ""
