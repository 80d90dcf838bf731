"""The chat model: chat completions on the wire, without an SDK in between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from chat.errors import UnreadableAnswer
from chat.providers.openai_compatible import json_text
from chat.providers.openai_compatible.answers import joined, to_chat_result
from chat.providers.openai_compatible.chunks import StreamReader
from chat.providers.openai_compatible.endpoint import Endpoint, endpoint_of, proxy_for
from chat.providers.openai_compatible.errors import (
    ProviderResponseError,
    Unreachable,
    fault_in,
)
from chat.providers.openai_compatible.events import DONE, data_of
from chat.providers.openai_compatible.exchange import Exchange, send
from chat.providers.openai_compatible.messages import SendReasoning, to_wire
from chat.providers.openai_compatible.timeouts import Deadline, Timeouts
from chat.providers.openai_compatible.tools import ToolBinding
from config import exact_json

OPENAI_URL = "https://api.openai.com/v1"
# OpenAI's reasoning models of this series take the system's messages under another role.
O_SERIES = re.compile(r"^o\d")
# Options of LangChain's that are not the provider's.
NOT_SENT = frozenset({"ls_structured_output_format", "structured_output_format", "stream_usage"})
# How long a stream that has its finish reason may take for its usage and its end.
END_SECONDS = 5.0
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class OpenAICompatibleChatModel(ToolBinding, BaseChatModel):
    """A chat model on any server that speaks OpenAI's chat completions.

    Raises ProviderResponseError, Unreachable, UnreadableAnswer, AnswerTooLarge and timeouts, none
    with the provider's text; retries are ResilientChatModel's.

    The parameters are those of the API; others that a server takes go into `extra_body`. Times
    that are None are those of the settings; `timeout` is the total.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    model_name: str = Field(alias="model")
    base_url: str = OPENAI_URL
    api_key: SecretStr = SecretStr("")
    timeout: float = 600.0
    connect_seconds: float | None = None
    first_token_seconds: float | None = None
    silence_seconds: float | None = None
    # Every LangChain model takes it; attempts are ResilientChatModel's, which knows the deadline.
    max_retries: int = 0
    # Whether `invoke` streams too, for callbacks that follow the tokens.
    streaming: bool = False
    stream_usage: bool = True
    # Servers that know only the older name, Mistral's for one.
    max_tokens_name: str = Field(
        default="max_completion_tokens", pattern="^max_(completion_)?tokens$"
    )

    # Of which earlier answers the model's thinking is sent back to it.
    send_reasoning: SendReasoning = "with_tool_calls"

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(default=None, alias="max_completion_tokens")
    stop: list[str] | str | None = Field(default=None, alias="stop_sequences")
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    user: str | None = None
    store: bool | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)

    _parameters: dict[str, Any] = PrivateAttr(default_factory=dict)
    _endpoint: Endpoint = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Collect the parameters once; raises ValueError for a base URL that cannot be called."""
        super().model_post_init(context)
        self._parameters = {
            name: value for name in PARAMETERS if (value := getattr(self, name)) is not None
        }
        self._parameters |= self.model_kwargs
        key = self.api_key.get_secret_value()
        self._endpoint = endpoint_of(self.base_url, key, proxy_for(self.base_url))

    @property
    def _llm_type(self) -> str:
        return "openai-compatible"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "base_url": self.base_url,
            **self._parameters,
            **({"extra_body": self.extra_body} if self.extra_body else {}),
        }

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        return {"model": self.model_name, **self._parameters, "stop": stop, **kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        found = super()._get_ls_params(stop=stop, **kwargs)
        found["ls_provider"] = "openai"
        found["ls_model_name"] = kwargs.get("model", self.model_name)
        return found

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        exchange = self._send(self._body(messages, stop, kwargs), is_stream=False)
        if _is_event_stream(exchange):
            # Some servers stream always.
            return joined(_chunks(lambda: exchange))
        with exchange:
            data = exchange.body()
        return to_chat_result(data.removeprefix(BYTE_ORDER_MARK))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        options: dict[str, Any] = {"stream": True}
        if kwargs.get("stream_usage", self.stream_usage):
            options["stream_options"] = {"include_usage": True}
        options |= kwargs
        # The request leaves with the call: a variable would hold it to the end of the stream.
        body = [self._body(messages, stop, options)]
        return _chunks(lambda: self._send(body.pop(), is_stream=True))

    def _body(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> bytes:
        system_role = "developer" if O_SERIES.match(self.model_name) else "system"
        body = {
            "model": self.model_name,
            "messages": to_wire(
                messages, system_role=system_role, send_reasoning=self.send_reasoning
            ),
            **self._parameters,
        }
        extra = {**self.extra_body, **options.get("extra_body", {})}
        body |= {
            name: value
            for name, value in options.items()
            if value is not None and name not in NOT_SENT and name != "extra_body"
        }
        if stop:
            body["stop"] = stop
        for name in ("max_tokens", "max_completion_tokens"):
            if name in body and name != self.max_tokens_name:
                body[self.max_tokens_name] = body.pop(name)
        return exact_json.dumps({**body, **extra})

    def _send(self, body: bytes, *, is_stream: bool) -> Exchange:
        """Send a request; raises ProviderResponseError for a response that is none of success."""
        exchange = send(self._endpoint, body, Deadline(self._timeouts(), is_stream=is_stream))
        if exchange.status == 200:
            return exchange
        with exchange:
            data = exchange.body()
        if exchange.status < 400:
            # A redirect, or success without an answer.
            raise UnreadableAnswer
        try:
            fault = fault_in(json_text.loads(data)) or {}
        except UnreadableAnswer:
            fault = {}
        raise ProviderResponseError(exchange.status, fault, dict(exchange.headers.items()))

    def _timeouts(self) -> Timeouts:
        def of(own: float | None, default: float) -> float:
            return default if own is None else own

        return Timeouts(
            connect_seconds=of(self.connect_seconds, settings.PROVIDER_CONNECT_SECONDS),
            first_token_seconds=of(self.first_token_seconds, settings.PROVIDER_FIRST_TOKEN_SECONDS),
            silence_seconds=of(self.silence_seconds, settings.PROVIDER_SILENCE_SECONDS),
            total_seconds=self.timeout,
        )


# The fields that are sent as they are.
PARAMETERS = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "presence_penalty"),
    *("frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls"),
    *("reasoning_effort", "verbosity", "service_tier", "modalities", "audio", "user", "store"),
)


def _is_event_stream(exchange: Exchange) -> bool:
    return str(exchange.headers.get("content-type", "")).startswith("text/event-stream")


def _chunks(call: Callable[[], Exchange]) -> Iterator[ChatGenerationChunk]:
    """Yield the chunks of a stream, or of a unary answer in its place."""
    reader = StreamReader()
    is_done = False
    with call() as exchange:
        try:
            events: list[bytes] | None = _first_events(exchange)
            while events is not None:
                has_part = False
                for data in events:
                    if data == DONE:
                        is_done = True
                        break
                    if (chunk := reader.read(data)) is not None:
                        has_part = True
                        yield chunk
                        # Its caller may be done with it long before the next one comes.
                        del chunk
                if is_done:
                    break
                # Once for all that came together, and after the caller has taken it.
                if has_part:
                    exchange.deadline.renew()
                if reader.finish_reason:
                    exchange.deadline.end_within(END_SECONDS)
                events = data_of(block) if (block := exchange.read()) else None
        except (TimeoutError, Unreachable):
            # With a finish reason the answer is complete; only its usage may be missing.
            if not reader.finish_reason:
                raise
        if not is_done and not reader.finish_reason and reader.has_choices:
            # The connection broke where HTTP did not show it.
            raise Unreachable
        yield reader.last()
        if is_done:
            exchange.read_last_bytes()


def _first_events(exchange: Exchange) -> list[bytes]:
    """Return the data of the events that came first."""
    content_type = exchange.headers.get("content-type", "")
    exchange.begin(is_stream=not ("json" in content_type or "html" in content_type))
    first = exchange.read().removeprefix(BYTE_ORDER_MARK).lstrip()
    if first[:1] in (b"{", b"[", b"<"):
        # Some servers answer a stream with JSON, and proxies with HTML.
        return [first + exchange.rest(), DONE]
    return data_of(first)
