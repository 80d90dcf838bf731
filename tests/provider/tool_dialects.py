"""Tool calls as servers send them besides OpenAI's: without ids or indexes, cut, sent twice."""

from __future__ import annotations

from typing import Any

from tests.provider.behaviours import behaviour
from tests.provider.dialects import BIG, EVENTS, chunk, lines_of, send_both
from tests.provider.exchange import USAGE, Exchange

ONE, TWO = '{"q":"one"}', '{"q":"two"}'


def call(arguments: Any, *, name: str | None = "lookup", **more: Any) -> dict[str, Any]:
    """Return a call, or a piece of one."""
    function = {"arguments": arguments, **({} if name is None else {"name": name})}
    return {"type": "function", "function": function, **more}


def _send(exchange: Exchange, calls: list[dict[str, Any]], *pieces: list[dict[str, Any]]) -> None:
    send_both(
        exchange,
        {"content": None, "tool_calls": calls},
        *(chunk({"tool_calls": piece}) for piece in (pieces or [[item] for item in calls])),
        reason="tool_calls",
    )


@behaviour
def calls_without_index(exchange: Exchange) -> None:
    """Send two calls with ids alone."""
    _send(exchange, [call(ONE, id="tc_1"), call(TWO, id="tc_2")])


@behaviour
def calls_of_one_index(exchange: Exchange) -> None:
    """Send two calls in pieces, both with index 0."""
    pieces = [
        [call('{"q":', id=call_id, index=0)] if part == 0 else [call(end, name=None, index=0)]
        for call_id, end in (("tc_1", '"one"}'), ("tc_2", '"two"}'))
        for part in (0, 1)
    ]
    _send(exchange, [call(ONE, id="tc_1"), call(TWO, id="tc_2")], *pieces)


@behaviour
def calls_without_anything(exchange: Exchange) -> None:
    """Send two calls without ids and indexes, in one chunk."""
    calls = [call(ONE), call(TWO, id="")]
    _send(exchange, calls, calls)


@behaviour
def calls_with_index_without_id(exchange: Exchange) -> None:
    """Send two calls by index alone."""
    _send(
        exchange,
        [call(ONE), call(TWO)],
        [call('{"q":', index=0), call('{"q":', index=1)],
        [call('"one"}', name=None, index=0), call('"two"}', name=None, index=1)],
    )


@behaviour
def call_cut(exchange: Exchange) -> None:
    """Stop within the arguments."""
    send_both(
        exchange,
        {"content": None, "tool_calls": [call('{"note": "buy mi', id="tc_1")]},
        chunk({"tool_calls": [call('{"note": "buy mi', id="tc_1", index=0)]}),
        reason="length",
    )


@behaviour
def call_cut_in_events(exchange: Exchange) -> None:
    """Stop within the arguments, by events whatever was requested."""
    cut = chunk({"tool_calls": [call('{"note": "buy mi', id="tc_1", index=0)]})
    data = lines_of(cut, chunk({}, "length"), {"choices": [], "usage": USAGE})
    exchange.send_bytes(data, content_type=EVENTS)


@behaviour
def call_doubled(exchange: Exchange) -> None:
    """Send the arguments a second time."""
    pieces = ['{"q":', '"one"}', '{"q":', '"one"}']
    _send(
        exchange,
        [call(ONE + ONE, id="tc_1")],
        [call(pieces[0], id="tc_1", index=0)],
        *([call(piece, name=None, index=0)] for piece in pieces[1:]),
    )


@behaviour
def call_object(exchange: Exchange) -> None:
    """Send an object in the place of the arguments' text."""
    _send(exchange, [call({"id": BIG}, id="tc_1", index=0)])


@behaviour
def call_big_integer(exchange: Exchange) -> None:
    """Send an integer beyond 64 bits."""
    _send(exchange, [call(f'{{"id": {BIG}, "price": 1.10}}', id="tc_1", index=0)])


@behaviour
def call_null(exchange: Exchange) -> None:
    """Call a tool without arguments, by null."""
    _send(exchange, [call(None, id="tc_1", index=0)])


@behaviour
def structured(exchange: Exchange) -> None:
    """Answer with a person, by the tool that must be called or as text."""
    person = '{"name": "Ada"}'
    if tools := exchange.call.body.get("tools"):
        name = tools[0]["function"]["name"]
        _send(exchange, [call(person, name=name, id="tc_1", index=0)])
    else:
        exchange.answer(person)
