"""Tool calls as servers send them: without ids or indexes, cut, repeated, or as objects."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from langchain_core.messages.tool import ToolCallChunk

# The characters of JSON that begin or end a string, an object or a list; an escape counts as one.
STRUCTURE = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


def new_id() -> str:
    """Return an id for a call that came without one."""
    return f"call_{secrets.token_hex(12)}"


def arguments_text(arguments: Any) -> str:
    """Return a call's arguments as text, an object in the position of one as its JSON."""
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    return json.dumps(arguments, ensure_ascii=False)


def parsed(arguments: str) -> dict[str, Any] | None:
    """Return the arguments as a dict, its integers exact; None where they are cut or no object."""
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments, strict=False)
    # Of integers with thousands of digits, too.
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def without_repetition(arguments: str) -> str:
    """Return arguments once that some servers send twice, `{"a": 1}{"a": 1}`."""
    text = arguments.strip()
    half = len(text) // 2
    if len(text) % 2 == 0 and text[:half] == text[half:] and parsed(text[:half]):
        return text[:half]
    return arguments


def has_objects(calls: Any) -> bool:
    """Return whether any arguments are an object.

    Its integers are to be read again: orjson makes floats of those beyond 64 bits.
    """
    return any(
        isinstance(call, dict)
        and isinstance(function := call.get("function"), dict)
        and isinstance(function.get("arguments"), dict | list)
        for call in (calls if isinstance(calls, list) else [calls])
    )


class CompletenessScanner:
    """Finds the end of a JSON object that comes in pieces, in one pass over them."""

    __slots__ = ("_depth", "_in_string", "_rest", "is_complete")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        # A backslash whose second character is in the next piece.
        self._rest = ""
        self.is_complete = False

    def add(self, piece: str) -> None:
        """Read a further piece."""
        text = self._rest + piece
        self._rest = ""
        for match in STRUCTURE.finditer(text):
            mark = match.group()
            if mark[0] == "\\":
                continue
            if mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                self.is_complete = self._depth <= 0
        # An odd run of backslashes at the end is half of an escape.
        if (len(text) - len(text.rstrip("\\"))) % 2:
            self._rest = "\\"


class _Call:
    __slots__ = ("arguments", "held", "id", "index", "key", "name", "scanner")

    def __init__(self, index: int, key: Any, name: str) -> None:
        self.index = index
        self.key = key
        self.id: str | None = None
        self.name = name
        self.arguments: list[str] = []
        # Pieces after the end of the arguments: they may be the same ones again.
        self.held = ""
        self.scanner = CompletenessScanner()


class StreamedToolCalls:
    """Gives the pieces of a stream's tool calls indexes of their own, and ids where they have none.

    Invariant: an index belongs to one call, and its first piece has an id and a name. A new call
    begins with an index not seen before, with another id, or with a name after a complete call.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def read(self, pieces: Any) -> list[ToolCallChunk]:
        """Return a chunk's pieces as LangChain's."""
        if isinstance(pieces, dict):
            pieces = [pieces]
        if not isinstance(pieces, list):
            return []
        found = []
        for piece in pieces:
            if isinstance(piece, dict) and (chunk := self._read_piece(piece)):
                found.append(chunk)
        return found

    def rest(self) -> list[ToolCallChunk]:
        """Return what was held back, and is not the repetition of a call's arguments."""
        found = []
        for call in self._calls:
            if call.held and call.held.strip() != "".join(call.arguments).strip():
                found.append(_chunk(call, call.held))
            call.held = ""
        return found

    def _read_piece(self, piece: dict[str, Any]) -> ToolCallChunk | None:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name, call_id = _text(function.get("name")), _text(piece.get("id"))
        arguments = arguments_text(function.get("arguments"))
        call = self._find(piece.get("index"), call_id, name, arguments)
        if call is None:
            call = _Call(len(self._calls), piece.get("index"), name)
            call.id = call_id or new_id()
            self._calls.append(call)
            call.arguments.append(arguments)
            call.scanner.add(arguments)
            return _chunk(call, arguments, is_first=True)
        late_name = "" if call.name else name
        call.name = call.name or late_name
        if call.scanner.is_complete:
            call.held += arguments
            return None
        if not arguments and not late_name:
            return None
        call.arguments.append(arguments)
        call.scanner.add(arguments)
        chunk = _chunk(call, arguments)
        return {**chunk, "name": late_name} if late_name else chunk

    def _find(self, index: Any, call_id: str, name: str, arguments: str) -> _Call | None:
        """Return the call that a piece continues; None for a new one."""
        if isinstance(index, int):
            call = next((c for c in reversed(self._calls) if c.key == index), None)
        elif call_id:
            call = next((c for c in self._calls if c.id == call_id), None)
            if call is None and not name and self._calls:
                call = self._calls[-1]
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or not name:
            return call
        if call_id and call_id != call.id:
            return None
        if not call_id and call.scanner.is_complete:
            # The arguments of a call that is complete, sent again with its name, or another call.
            is_repeated = name == call.name and "".join(call.arguments) == arguments
            return call if is_repeated and isinstance(index, int) else None
        return call


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _chunk(call: _Call, arguments: str, *, is_first: bool = False) -> ToolCallChunk:
    return ToolCallChunk(
        name=call.name if is_first else None,
        args=arguments,
        id=call.id if is_first else None,
        index=call.index,
        type="tool_call_chunk",
    )
