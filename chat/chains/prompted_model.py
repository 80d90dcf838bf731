"""A prompt and a model, without LangChain's machinery around them where nothing listens to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel, _gen_info_and_msg_metadata
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config
from langchain_core.utils.utils import LC_ID_PREFIX
from pydantic import PrivateAttr


class PromptedModel(RunnableSequence[Any, Any]):
    """The sequence of a prompt and a chat model, which `invoke` and `stream` answer themselves.

    LangChain's sequence hands every chunk through generators of its own and adds each to those
    before it, for callbacks that are seldom set: 1.3 ms of a stream of 100 chunks, and the
    model's own half of that as much again. Where there is a handler (of the config, of a tracer
    such as LangSmith's, of a context), in a debugging mode, or with options of a call, it is
    LangChain's sequence; so are its schemas, `batch`, `transform` and the methods to await.
    """

    _to_messages: Callable[[Any], list[BaseMessage]] = PrivateAttr()

    @classmethod
    def of(
        cls,
        prompt: Runnable[Any, Any],
        to_messages: Callable[[Any], list[BaseMessage]],
        model: BaseChatModel,
    ) -> PromptedModel:
        """Return the sequence; `prompt` is `to_messages` as a runnable."""
        # Traces and LangServe's clients see the name.
        sequence = cls(first=prompt, last=model, name="RunnableSequence")
        sequence._to_messages = to_messages
        return sequence

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return the model's message."""
        messages = self._plain_messages(input, config, kwargs)
        if messages is None:
            return super().invoke(input, config, **kwargs)
        message = self._model._generate_with_cache(messages).generations[0].message
        if message.id is None:
            message.id = f"{_new_id()}-0"
        return message

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None
    ) -> Iterator[Any]:
        """Yield the chunks of the model's message."""
        messages = self._plain_messages(input, config, kwargs)
        if messages is None or self._model.disable_streaming:
            yield from super().stream(input, config, **kwargs)
            return
        message_id = _new_id()
        is_last = True
        for chunk in self._model._stream(messages):
            message: AIMessageChunk = chunk.message  # type: ignore[assignment]  # a chunk's is one
            if message.id is None:
                message.id = message_id
            if chunk.generation_info:
                message.response_metadata = _gen_info_and_msg_metadata(chunk)
            is_last = bool(message.chunk_position)
            yield message
            # The next one may take long.
            del chunk, message
        if not is_last:
            yield AIMessageChunk(content="", chunk_position="last", id=message_id)

    @property
    def _model(self) -> BaseChatModel:
        return cast(BaseChatModel, self.last)

    def _plain_messages(
        self, value: Any, config: RunnableConfig | None, options: dict[str, Any]
    ) -> list[BaseMessage] | None:
        """Return the model's messages, or None where LangChain's own way must be taken."""
        model = self._model
        if options or model.callbacks or model.verbose or model.output_version is not None:
            return None
        if get_callback_manager_for_config(ensure_config(config)).handlers:
            return None
        messages = self._to_messages(value)
        # LangChain translates parts of other providers' forms.
        return messages if all(isinstance(m.content, str) for m in messages) else None


def _new_id() -> str:
    return f"{LC_ID_PREFIX}-{uuid.uuid4()}"
