"""The chat model that chains are built with: a list of models, called until one answers."""

from __future__ import annotations

import logging
import socket
import ssl
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    messages_to_dict,
)
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.tools import BaseTool

from chat import metrics
from chat.caching.llm_cache import install
from chat.chains.config import ChainConfig
from chat.errors import ProviderError, UnreadableAnswer
from chat.inputs.tool_calls import complete_message
from chat.providers.errors import to_provider_error
from chat.providers.factory import make_model, pass_response_format_through
from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.tools import Method, structured_output
from chat.running.run import Run, current_run
from config.backoff import full_jitter_seconds
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

# The metadata in which the last chunks of LangChain's OpenAI models have the finish reason: of chat
# completions, and of responses. A stream without it was cut off on its way.
FINISH_KEYS = frozenset({"finish_reason", "status", "incomplete_details"})


class ResilientChatModel(BaseChatModel):
    """Answers from the first of `candidates` that can.

    Each is retried on transient faults, up to PROVIDER_MAX_RETRIES times with exponential backoff
    and full jitter, within the run's deadline; then the next. A stream moves on only
    until its first chunk: sent chunks cannot be taken back. The options of the current
    run (temperature, stop, tools, ...) are added to every call, and its tokens are counted.
    Raises ProviderError when no candidate answered.
    """

    candidates: Sequence[BaseChatModel]
    names: Sequence[str]

    @classmethod
    def from_config(cls, config: ChainConfig) -> ResilientChatModel:
        """Build the models of a chain; raises BadChain when one cannot be built."""
        names = (config.model_name, *config.fallback_models)
        # LangChain serializes all messages before a lookup; other chains must not pay for it.
        is_cached = config.caches_model_calls and settings.CACHE_ENABLED
        return cls(
            names=names,
            candidates=[make_model(name, config) for name in names],
            cache=install() if is_cached else False,
        )

    @property
    def _llm_type(self) -> str:
        return "resilient"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        first = self.candidates[0]
        return {"names": list(self.names), **first._identifying_params}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools in the first candidate's format; the others must share its provider's."""
        bound = self.candidates[0].bind_tools(tools, **kwargs)
        extra = bound.kwargs if isinstance(bound, RunnableBinding) else {}
        return self.bind(**extra)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Bind a schema by a tool, or by the options that OpenAI-compatible servers have for it.

        The latter, and `strict`, are for these servers alone; raises ValueError for others.
        """
        if not isinstance(self.candidates[0], OpenAICompatibleChatModel):
            if schema is None or method != "function_calling" or strict is not None:
                raise ValueError(f"{self.names[0]} takes a schema as a tool only")
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        return structured_output(
            self, schema, method=method, include_raw=include_raw, strict=strict, options=kwargs
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        run = current_run.get() or Run(timeout_seconds=3600)

        def call(candidate: BaseChatModel, options: dict[str, Any]) -> ChatResult:
            result = candidate._generate(messages, run_manager=run_manager, **options)
            if not result.generations:
                raise UnreadableAnswer
            return result

        checkpoint = _Checkpoint(run, self.names, messages, stop, kwargs)
        if (answer := checkpoint.find()) is not None:
            _count_usage(run, answer)
            return ChatResult(generations=[ChatGeneration(message=answer)])
        with run.cancellable():
            result: ChatResult = self._call_with_fallback(call, run, kwargs, stop)
        for generation in result.generations:
            _count_usage(run, generation.message)
            # Cut off, or in no shape that has a reason; half an answer must not be cached.
            metadata = {
                **generation.message.response_metadata,
                **(generation.generation_info or {}),
            }
            if metadata.get("model_provider") == "openai" and not FINISH_KEYS & metadata.keys():
                run.maybe_truncated = True
        checkpoint.store(result.generations[0].message)
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        run = current_run.get() or Run(timeout_seconds=3600)

        def call(
            candidate: BaseChatModel, options: dict[str, Any]
        ) -> tuple[Any, Iterator[ChatGenerationChunk]]:
            if type(candidate)._stream is BaseChatModel._stream:
                chunks = _as_stream(candidate._generate(messages, **options))
            else:
                chunks = candidate._stream(messages, **options)
            if (first := next(chunks, None)) is None:
                raise UnreadableAnswer
            return first, chunks

        checkpoint = _Checkpoint(run, self.names, messages, stop, kwargs)
        if (answer := checkpoint.find()) is not None:
            _count_usage(run, answer)
            yield ChatGenerationChunk(message=_to_chunk(answer))
            return
        with run.cancellable():
            first, rest = self._call_with_fallback(call, run, kwargs, stop)
        try:
            expects_finish_reason = has_finish_reason = False
            while first is not None:
                run.streamed_chunks += 1
                message, info = first.message, first.generation_info or {}
                # LangChain joins the two only afterwards.
                for metadata in (message.response_metadata, info):
                    expects_finish_reason |= metadata.get("model_provider") == "openai"
                    has_finish_reason |= not FINISH_KEYS.isdisjoint(metadata)
                _count_usage(run, message)
                checkpoint.add(message)
                yield first
                # The next one may take long.
                del first, message, info, metadata
                release_connections()
                with run.cancellable():
                    first = next(rest, None)
            if expects_finish_reason and not has_finish_reason:
                run.maybe_truncated = True
            checkpoint.store_chunks()
        except Exception as error:
            metrics.PROVIDER_CALLS.labels(outcome="broken_stream").inc()
            raise to_provider_error(error) or UnreadableAnswer() from error
        finally:
            # Closing the generator closes the provider's connection, which stops its work.
            if (close := getattr(rest, "close", None)) is not None:
                close()

    def _call_with_fallback(
        self,
        call: Callable[[BaseChatModel, dict[str, Any]], Any],
        run: Run,
        kwargs: dict[str, Any],
        stop: list[str] | None,
    ) -> Any:
        """Return the first answer of any candidate; raises the last one's ProviderError."""
        last: ProviderError | None = None
        for name, candidate in zip(self.names, self.candidates, strict=True):
            options = self._options(candidate, run, kwargs, stop)
            for attempt in range(settings.PROVIDER_MAX_RETRIES + 1):
                if last is not None and attempt and not _wait_before_retry(last, attempt, run):
                    break
                # The chain may have queried the database; its model takes seconds.
                release_connections()
                try:
                    answer = call(candidate, options)
                # Any class: each provider's SDK has its own, and for an unreadable answer, as a
                # proxy's HTML, it raises a ValueError or KeyError that may quote it.
                except Exception as error:
                    last = to_provider_error(error) or UnreadableAnswer()
                    logger.warning("%s: attempt %d: %s", name, attempt + 1, _describe(error))
                    metrics.PROVIDER_CALLS.labels(outcome=last.code).inc()
                    if last.is_request_at_fault:
                        raise last from error
                    if not last.is_transient:
                        break
                else:
                    metrics.PROVIDER_CALLS.labels(outcome="ok").inc()
                    return answer
        assert last is not None  # noqa: S101  (there is at least one candidate)
        raise last

    def _options(
        self,
        candidate: BaseChatModel,
        run: Run,
        kwargs: dict[str, Any],
        stop: list[str] | None,
    ) -> dict[str, Any]:
        """Merge the chain's bound options with the client's; the chain's own tools win."""
        options = {**run.options, **kwargs}
        stops = [*(stop or []), *options.pop("stop", [])]
        tools = options.pop("tools", None)
        if tools is not None and "tools" not in kwargs:
            choice = {"tool_choice": options.pop("tool_choice")} if "tool_choice" in options else {}
            bound = candidate.bind_tools(tools, **choice)
            if isinstance(bound, RunnableBinding):
                options |= bound.kwargs
        elif tools is not None:
            options["tools"] = tools
        if "response_format" in options and "response_format" not in kwargs:
            options = pass_response_format_through(candidate, options)
        return {**options, "stop": stops or None}


class _Checkpoint:
    """One model call's entry among the checkpoints of its run, if the run has any."""

    def __init__(
        self,
        run: Run,
        names: Sequence[str],
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> None:
        self._answers = run.answers
        self._key = ""
        self._chunks: list[BaseMessage] = []
        if self._answers is not None:
            self._key = self._answers.key(
                {
                    "models": list(names),
                    "messages": messages_to_dict(messages),
                    "options": {**run.options, **kwargs, "stop": stop},
                }
            )

    def find(self) -> AIMessage | None:
        """Return the answer of an earlier attempt."""
        return None if self._answers is None else self._answers.find(self._key)

    def add(self, chunk: BaseMessage) -> None:
        """Collect a chunk of an answer that is being streamed."""
        if self._answers is not None:
            self._chunks.append(chunk)

    def store_chunks(self) -> None:
        """Store the chunks as one answer."""
        if self._chunks:
            first, *others = self._chunks
            self.store(complete_message(add_ai_message_chunks(first, *others)))  # type: ignore[arg-type]

    def store(self, answer: BaseMessage) -> None:
        """Store a complete answer."""
        if self._answers is not None and isinstance(answer, AIMessage):
            self._answers.keep(self._key, answer)


def _wait_before_retry(error: ProviderError, attempt: int, run: Run) -> bool:
    """Sleep before another attempt; False when the deadline leaves no time for one.

    Full jitter, but never less than a provider's own Retry-After.
    """
    delay = full_jitter_seconds(
        attempt,
        base_seconds=settings.PROVIDER_RETRY_BASE_SECONDS,
        max_seconds=settings.PROVIDER_RETRY_MAX_SECONDS,
    )
    delay = max(delay, error.retry_after_seconds or 0.0)
    # A provider that wants a long pause is left to the client's own retry; a fallback is quicker.
    if delay > settings.PROVIDER_RETRY_MAX_SECONDS:
        return False
    if delay >= run.seconds_left():
        return False
    time.sleep(delay)
    return True


def _count_usage(run: Run, message: BaseMessage) -> None:
    if isinstance(message, AIMessage) and (usage := message.usage_metadata):
        run.usage.add(
            prompt_tokens=usage["input_tokens"],
            completion_tokens=usage["output_tokens"],
            cached_tokens=usage.get("input_token_details", {}).get("cache_read"),
            reasoning_tokens=usage.get("output_token_details", {}).get("reasoning"),
        )


def _as_stream(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    """Return a complete answer as a stream of one chunk, for models that cannot stream."""
    yield ChatGenerationChunk(message=_to_chunk(result.generations[0].message))


def _to_chunk(message: BaseMessage) -> AIMessageChunk:
    """Return a message as a chunk."""
    return AIMessageChunk(**message.model_dump(exclude={"type"}))


def _describe(error: Exception) -> str:
    """Return an error's class and line for the log, without its text, which may hold a key."""
    if status := getattr(error, "status_code", None):
        return f"{type(error).__name__} {status}"
    cause: BaseException | None = error
    while cause is not None:
        # The texts of these are the system's own, and an operator needs them.
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{type(error).__name__}: {cause.verify_message}"
        if isinstance(cause, socket.gaierror):
            return f"{type(error).__name__}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name} ({frame.filename}:{frame.lineno})"
