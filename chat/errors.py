"""The errors between a client's request and a model's answer."""

from typing import Any

from config.api.errors import ApiError


class BadChain(Exception):
    """A chain that cannot be built; the text says why and is for staff."""


class ChainNotFound(ApiError):
    """No enabled chain has this slug."""

    def __init__(self, slug: str, *, param: str = "model") -> None:
        super().__init__(
            404,
            f"There is no model {slug[:100]!r}; GET /v1/models lists them.",
            code="model_not_found",
            param=param,
        )


class ChainUnavailable(ApiError):
    """The chain cannot be called as staff configured it; the log has the reason.

    Its model has no key, for one, or its code is not installed. A job is retried, because another
    worker may have the key or the code.
    """

    def __init__(self, slug: str) -> None:
        super().__init__(
            503,
            f"{slug} is unavailable: its model or its code is not set up. Choose another of"
            " GET /v1/models, or ask who runs it: the operator's log has the reason.",
            code="chain_unavailable",
            should_retry=False,
        )


class ChainBroken(ApiError):
    """The chain's own code failed; the log has the reason."""

    def __init__(self) -> None:
        super().__init__(
            500,
            "The chain failed; the operator's log has the reason under this request's id.",
            code="chain_error",
            should_retry=False,
        )


class ChainTimeout(ApiError):
    """The chain's time ran out."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(
            504, f"The answer took longer than {timeout_seconds:g} s.", code="chain_timeout"
        )
        self.timeout_seconds = timeout_seconds


class ClientGone(ApiError):
    """The client closed its connection before the answer (nginx's status 499)."""

    def __init__(self) -> None:
        super().__init__(499, "The client closed the connection.", code="client_closed_request")


class ServerDraining(ApiError):
    """This node stops, and the answer had no more time; another node takes the request."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "The server is being restarted; send the request again.",
            code="server_draining",
            retry_after_seconds=1,
            should_retry=True,
        )

    @property
    def body(self) -> dict[str, Any]:
        """The envelope; in a stream no header can say any more that a retry helps."""
        return {"error": {**super().body["error"], "should_retry": True}}


class ProviderError(ApiError):
    """A model provider failed.

    `is_transient`: the same call may work in a moment, so it is retried. `is_request_at_fault`:
    another model would refuse it as well, so no fallback is called. The message never holds the
    provider's own text, which may contain keys, prompts or addresses.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        is_transient: bool = False,
        is_request_at_fault: bool = False,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(
            status,
            message,
            code=code,
            retry_after_seconds=retry_after_seconds,
            should_retry=should_retry,
        )
        self.is_transient = is_transient
        self.is_request_at_fault = is_request_at_fault


class OversizedAnswer(ProviderError):
    """A provider's answer is larger than `setting` allows."""

    def __init__(self, setting: str) -> None:
        super().__init__(
            502,
            f"The model provider's answer is larger than {setting} allows.",
            code="provider_answer_too_large",
            should_retry=False,
        )


class UnreadableAnswer(ProviderError):
    """A provider's answer is empty, or is not what its API promises."""

    def __init__(self) -> None:
        super().__init__(
            502, "The model provider's answer could not be read.", code="provider_bad_answer"
        )
