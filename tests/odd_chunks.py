"""What models send that is more than text, as the chunks of a chain; `odd` in tests/chains.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

CUT = '{"note": "buy mi'
BIG = '{"id": 98765432109876543210987, "at": 1.10}'
CITATION = {"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "x"}}


def more(**given: Any) -> AIMessageChunk:
    """Return a chunk without text."""
    return AIMessageChunk("", additional_kwargs=given)


def call(args: str, *, call_id: str | None = None, index: int | None = 0) -> AIMessageChunk:
    """Return a chunk with a piece of a call, its first if it has an id."""
    name = "store" if call_id else None
    piece = tool_call_chunk(name=name, args=args, id=call_id, index=index)
    return AIMessageChunk("", tool_call_chunks=[piece])


def end(reason: str) -> AIMessageChunk:
    """Return the last chunk."""
    return AIMessageChunk("", response_metadata={"finish_reason": reason})


ODD: dict[str, list[AIMessageChunk]] = {
    "refusal": [more(refusal="I "), more(refusal="cannot."), end("stop")],
    "text and refusal": [AIMessageChunk("Well. "), more(refusal="No."), end("stop")],
    "reasoning": [
        more(reasoning_content="Hm "),
        more(reasoning_content="so."),
        AIMessageChunk("4"),
    ],
    "citation": [AIMessageChunk("See."), more(annotations=[CITATION]), end("stop")],
    "half pair": [AIMessageChunk("yes \ud83c"), AIMessageChunk("\udf0a no \ud83c"), end("stop")],
    "cut call": [call("", call_id="c1"), call(CUT[:5]), call(CUT[5:]), end("length")],
    "big call": [call("", call_id="c1"), call(BIG[:12]), call(BIG[12:]), end("tool_calls")],
    "same index": [
        *(call('{"q":', call_id="c1"), call('"one"}')),
        *(call('{"q":', call_id="c2"), call('"two"}')),
        end("tool_calls"),
    ],
    "no index": [
        call('{"q":"one"}', call_id="c1", index=None),
        call('{"q":"two"}', call_id="c2", index=None),
        end("tool_calls"),
    ],
}


def odd_chunks(names: Iterator[str]) -> Iterator[AIMessageChunk]:
    """Yield the chunks of each name."""
    for name in names:
        yield from (chunk.model_copy(deep=True) for chunk in ODD[name])
