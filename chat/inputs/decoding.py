"""Decode the JSON that stands for LangChain's objects.

Only messages, documents and prompt values, by their `type`. `dumpd`'s constructors name any class
to be imported and called with any arguments, so they are refused.
"""

from __future__ import annotations

from typing import Any

import gevent
from django.conf import settings
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValueConcrete, StringPromptValue
from pydantic import BaseModel, ValidationError

from chat.inputs.errors import (
    MAX_PARAM_CHARS,
    from_validation,
    invalid_input,
    unsupported,
)
from chat.inputs.langchain_messages import content_length, decode_message, is_message, media_sizes
from chat.inputs.media_parts import count_media

# Between so many objects and arrays other greenlets run; a message takes up to 0.1 ms.
SLICE_CONTAINERS = 200
# A tag, the class, and the field without which an object only happens to have the tag.
OTHER_CLASSES: dict[str, tuple[type[BaseModel], str]] = {
    "Document": (Document, "page_content"),
    "StringPromptValue": (StringPromptValue, "text"),
    "ChatPromptValueConcrete": (ChatPromptValueConcrete, "messages"),
}


def decode(value: Any, *, param: str) -> Any:
    """Return a JSON value with its well-known objects decoded; `param` is its path.

    An object that has the tag of a message, but no `content`, is left as it is, and so on.
    Raises InvalidRequest: 422 for a malformed or too large input, 400 for a constructor.
    """
    return _Decoder().decode(value, (param,))


class _Decoder:
    """Counts the messages of one input while decoding it.

    The JSON parser limits how deep a value is, and so how deep this goes. A path is joined only
    for an error: a client's keys may be long, and their values many.
    """

    def __init__(self) -> None:
        self._containers = 0
        self._messages = 0
        self._chars = 0
        self._media: list[int] = []

    def decode(self, value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, list):
            self._yield_if_due()
            return [
                self.decode(item, (*path, index)) if isinstance(item, dict | list) else item
                for index, item in enumerate(value)
            ]
        if isinstance(value, dict):
            return self._decode_object(value, path)
        return value

    def _decode_object(self, value: dict[str, Any], path: tuple[str | int, ...]) -> Any:
        self._yield_if_due()
        kind = value.get("type")
        if "lc" in value and kind in ("constructor", "secret", "not_implemented"):
            raise unsupported(
                "LangChain's constructors (dumpd) are not accepted; send messages as objects "
                'such as {"type": "human", "content": "..."}.',
                param=_join(path),
            )
        parts = {
            key: self.decode(item, (*path, key)) if isinstance(item, dict | list) else item
            for key, item in value.items()
        }
        if is_message(parts):
            message = decode_message(parts, param=_join(path))
            self._count(message, path)
            return message
        cls, field = OTHER_CLASSES.get(str(kind), (None, ""))
        if cls is None or field not in parts:
            return parts
        try:
            return cls.model_validate(parts)
        except ValidationError as error:
            raise from_validation(error, parts, param=_join(path)) from error
        # LangChain's own code, which runs before pydantic's, raises these.
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise invalid_input(f"this is no {kind}.", param=_join(path)) from error

    def _yield_if_due(self) -> None:
        self._containers += 1
        if self._containers % SLICE_CONTAINERS == 0:
            gevent.sleep(0)

    def _count(self, message: BaseMessage, path: tuple[str | int, ...]) -> None:
        self._messages += 1
        self._chars += content_length(message)
        self._media += media_sizes(message)
        if self._media:
            count_media(sum(self._media), len(self._media), _join(path))
        if self._messages > settings.MAX_MESSAGES:
            raise invalid_input(
                f"there may be {settings.MAX_MESSAGES} messages.", param=_join(path)
            )
        if self._chars > settings.MAX_CONTENT_CHARS:
            raise invalid_input(
                f"the messages together may have {settings.MAX_CONTENT_CHARS} characters.",
                param=_join(path),
            )


def _join(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part)[:MAX_PARAM_CHARS] for part in path)
