"""The chunks of a streamed answer as LangChain's."""

from __future__ import annotations

from typing import Any

import orjson
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from chat.errors import UnreadableAnswer
from chat.providers.openai_compatible import json_text
from chat.providers.openai_compatible.deltas import (
    MODEL_PROVIDER,
    additional_kwargs,
    text_and_reasoning,
)
from chat.providers.openai_compatible.errors import error_in_answer, fault_in
from chat.providers.openai_compatible.events import ErrorData
from chat.providers.openai_compatible.tool_calls import StreamedToolCalls, has_objects
from chat.providers.openai_compatible.usage import usage_metadata
from config.text import TextPieces

# What a delta of text alone has.
PLAIN_MEMBERS = frozenset({"role", "content"})
# Members that the last chunk takes over from the stream's.
PASSED_ON = ("system_fingerprint", "service_tier")
# The reason of a server, OpenRouter's for one, that failed midway.
FAILED = "error"


class StreamReader:
    """Makes a LangChain chunk of each event that has a part of the answer.

    What may come in several events and must count once, the usage and the finish reason, is
    collected for `last`. Of several choices the first is read, and no other.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.has_choices = False
        self._choice_index: Any = None
        self._usage: Any = None
        self._metadata: dict[str, Any] = {}
        self._tool_calls = StreamedToolCalls()
        self._text = TextPieces()

    def read(self, data: bytes) -> ChatGenerationChunk | None:
        """Return an event's part of the answer; None where it has none.

        Raises ProviderResponseError for an error, and UnreadableAnswer.
        """
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            body = json_text.loads(data)
        if type(body) is not dict or "error" in body or type(data) is ErrorData:
            self._raise_for(body, data)
        if usage := body.get("usage"):
            self._usage = usage
        choice = self._choice_of(body)
        if choice is None:
            return None
        if reason := choice.get("finish_reason"):
            self._finish(reason, body)
        delta = choice.get("delta") or choice.get("message")
        if type(delta) is not dict:
            return None
        content = delta.get("content")
        if type(content) is str and delta.keys() <= PLAIN_MEMBERS and not choice.get("logprobs"):
            content = self._text.add(content)
            return text_chunk(content) if content else None
        return self._rich_chunk(content, delta, choice.get("logprobs"), data)

    def last(self) -> ChatGenerationChunk:
        """Return the chunk that ends the answer; raises UnreadableAnswer for one without any."""
        if not self.has_choices:
            raise UnreadableAnswer
        info = {**self._metadata}
        if self.finish_reason:
            info["finish_reason"] = self.finish_reason
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=self._text.end(),
                usage_metadata=usage_metadata(self._usage),
                response_metadata={"model_provider": MODEL_PROVIDER},
                tool_call_chunks=self._tool_calls.rest(),
                chunk_position="last",
            ),
            generation_info=info or None,
        )

    def _choice_of(self, body: dict[str, Any]) -> dict[str, Any] | None:
        choices = body.get("choices")
        if not choices or type(choices) is not list:
            return None
        for choice in choices:
            if type(choice) is not dict:
                raise UnreadableAnswer
            if not self.has_choices:
                self.has_choices, self._choice_index = True, choice.get("index")
            if choice.get("index") == self._choice_index:
                return choice
        return None

    def _finish(self, reason: Any, body: dict[str, Any]) -> None:
        if reason == FAILED:
            raise error_in_answer({}, {})
        if not self.finish_reason and isinstance(reason, str):
            self.finish_reason = reason
            if isinstance(name := body.get("model"), str):
                self._metadata["model_name"] = name
            self._metadata |= {name: body[name] for name in PASSED_ON if body.get(name)}

    def _rich_chunk(
        self, content: Any, delta: dict[str, Any], logprobs: Any, data: bytes
    ) -> ChatGenerationChunk | None:
        text, reasoning = text_and_reasoning(content)
        text = self._text.add(text)
        extra = additional_kwargs(delta, reasoning)
        calls = self._calls_of(delta, data) if delta.get("tool_calls") else []
        if not (text or extra or calls or logprobs):
            return None
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=text,
                additional_kwargs=extra,
                tool_call_chunks=calls,
                response_metadata={"model_provider": MODEL_PROVIDER},
            ),
            generation_info={"logprobs": logprobs} if logprobs else None,
        )

    def _calls_of(self, delta: dict[str, Any], data: bytes) -> list[ToolCallChunk]:
        pieces = delta["tool_calls"]
        if has_objects(pieces):
            choice = self._choice_of(json_text.exact_loads(data)) or {}
            pieces = (choice.get("delta") or choice.get("message") or {}).get("tool_calls")
        return self._tool_calls.read(pieces)

    def _raise_for(self, body: Any, data: bytes) -> None:
        fault = fault_in(body)
        if fault is None and type(data) is ErrorData:
            fault = body if isinstance(body, dict) else {}
        if fault is not None:
            raise error_in_answer(fault, {})
        if type(body) is not dict:
            raise UnreadableAnswer


def text_chunk(text: str) -> ChatGenerationChunk:
    """Return a chunk of text alone.

    Validating the fields of a message takes longer than all else that is done with a token, so
    they are set as pydantic's own `__copy__` sets them.
    """
    message = AIMessageChunk.__new__(AIMessageChunk)
    fields = {
        **_MESSAGE_FIELDS,
        "content": text,
        "response_metadata": {"model_provider": MODEL_PROVIDER},
        # A copy's would be the original's.
        "additional_kwargs": {},
        "tool_calls": [],
        "invalid_tool_calls": [],
        "tool_call_chunks": [],
    }
    _fill(message, fields, {"content", "response_metadata"}, {})
    chunk = ChatGenerationChunk.__new__(ChatGenerationChunk)
    fields = {**_CHUNK_FIELDS, "text": text, "message": message}
    _fill(chunk, fields, {"text", "message"}, None)
    return chunk


def _fill(
    model: BaseModel, fields: dict[str, Any], given: set[str], extra: dict[str, Any] | None
) -> None:
    _set(model, "__dict__", fields)
    _set(model, "__pydantic_fields_set__", given)
    _set(model, "__pydantic_extra__", extra)
    _set(model, "__pydantic_private__", None)


_set = object.__setattr__
_MESSAGE = AIMessageChunk(content="")
_MESSAGE_FIELDS = _MESSAGE.__dict__
_CHUNK_FIELDS = ChatGenerationChunk(message=_MESSAGE).__dict__
