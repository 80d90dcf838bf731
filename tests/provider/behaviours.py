"""How the provider behaves, each under the name of a model."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.provider.exchange import SECRET, Exchange

WORDS = ("One ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight.")
HANG_SECONDS = 60.0

Behaviour = Callable[[Exchange], None]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    """Register a function as a model, `fail_500` as `fail-500`."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


# --- Good ones ----------------------------------------------------------------------------------
@behaviour
def hello(exchange: Exchange) -> None:
    """Answer at once."""
    exchange.answer("Hello ", "there.")


@behaviour
def echo(exchange: Exchange) -> None:
    """Answer with the request itself, as JSON."""
    exchange.answer(json.dumps(exchange.call.body))


@behaviour
def no_usage(exchange: Exchange) -> None:
    """Answer without token counts."""
    exchange.answer("Free ", "of charge.", usage=None)


@behaviour
def cut_short(exchange: Exchange) -> None:
    """Stop at the token limit."""
    exchange.answer("To be contin", reason="length")


@behaviour
def filtered(exchange: Exchange) -> None:
    """Stop at a content filter."""
    exchange.answer("I would", reason="content_filter")


@behaviour
def city(exchange: Exchange) -> None:
    """Answer with an object, as `response_format` may ask for."""
    exchange.answer('{"city": ', '"Oslo"}')


@behaviour
def empty(exchange: Exchange) -> None:
    """Answer nothing at all."""
    exchange.answer()


@behaviour
def nul(exchange: Exchange) -> None:
    """Answer with a character that PostgreSQL cannot store."""
    exchange.answer("a\0b")


@behaviour
def tool_call(exchange: Exchange) -> None:
    """Call two tools; once their results are there, answer."""
    if exchange.call.body["messages"][-1]["role"] == "tool":
        exchange.answer("It is sunny.")
        return
    exchange.answer(
        tool_calls=[
            {
                "id": f"call_{city}",
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps({"city": city})},
            }
            for city in ("Oslo", "Rome")
        ],
        reason="tool_calls",
    )


@behaviour
def slow_stream(exchange: Exchange) -> None:
    """Say eight words, one each 0.15 s."""
    exchange.answer(*WORDS, pause_seconds=0.15)


@behaviour
def slow_start(exchange: Exchange) -> None:
    """Be silent for longer than a heartbeat, then answer."""
    exchange.wait(2.5)
    exchange.answer("At ", "last.")


@behaviour
def slow_echo(exchange: Exchange) -> None:
    """Answer with the request itself, after a second."""
    exchange.wait(1.0)
    echo(exchange)


@behaviour
def many_chunks(exchange: Exchange) -> None:
    """Say more words than any buffer holds, as fast as they are taken."""
    exchange.answer(*(f"{number} " for number in range(3000)))


@behaviour
def short_summary(exchange: Exchange) -> None:
    """Summarize anything in a few words."""
    exchange.answer("A short ", "summary.")


@behaviour
def slow_summary(exchange: Exchange) -> None:
    """Take more than a heartbeat for a summary."""
    exchange.wait(1.3)
    exchange.answer("A short ", "summary.")


# --- Bad answers --------------------------------------------------------------------------------
@behaviour
def fail_429_twice(exchange: Exchange) -> None:
    """Be busy for the first two attempts."""
    if exchange.attempt <= 2:
        exchange.fail(429, headers={"Retry-After": "0.05"})
    else:
        hello(exchange)


@behaviour
def fail_500_twice(exchange: Exchange) -> None:
    """Fail the first two attempts."""
    if exchange.attempt <= 2:
        exchange.fail(500)
    else:
        hello(exchange)


@behaviour
def works_once(exchange: Exchange) -> None:
    """Answer the first attempt, and fail from then on."""
    if exchange.attempt == 1:
        hello(exchange)
    else:
        exchange.fail(500)


@behaviour
def fail_429(exchange: Exchange) -> None:
    """Be busy for ever."""
    exchange.fail(429, headers={"Retry-After": "0.05"})


@behaviour
def fail_429_for_long(exchange: Exchange) -> None:
    """Be busy, and say that it will take a while."""
    exchange.fail(429, headers={"Retry-After": "17"})


@behaviour
def fail_500(exchange: Exchange) -> None:
    """Fail for ever."""
    exchange.fail(500)


@behaviour
def fail_whole(exchange: Exchange) -> None:
    """Summarize parts, and fail at what is made of them."""
    if exchange.call.text.startswith("Summarize this part"):
        exchange.answer("A short ", "summary.")
    else:
        exchange.fail(500)


@behaviour
def fail_503(exchange: Exchange) -> None:
    """Be overloaded for ever."""
    exchange.fail(503)


@behaviour
def leaky_401(exchange: Exchange) -> None:
    """Refuse the key, and quote it."""
    exchange.fail(401)


@behaviour
def leaky_400(exchange: Exchange) -> None:
    """Refuse the request, and quote the key."""
    exchange.fail(400)


@behaviour
def echoes_prompt(exchange: Exchange) -> None:
    """Refuse the request, and quote it."""
    error = {"message": f"wrong: {json.dumps(exchange.call.body)}", "type": "invalid_request_error"}
    exchange.send_json(400, {"error": error})


@behaviour
def too_long(exchange: Exchange) -> None:
    """Refuse the request for its length."""
    exchange.fail(400, code="context_length_exceeded")


@behaviour
def bad_json(exchange: Exchange) -> None:
    """Send something that is no JSON."""
    exchange.send(200, f'{{"choices": [{SECRET}'.encode())


@behaviour
def no_choices(exchange: Exchange) -> None:
    """Send an answer that is none."""
    exchange.send_json(200, {"id": SECRET, "object": "chat.completion", "choices": []})


# --- Silence and broken connections -------------------------------------------------------------
@behaviour
def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.wait(HANG_SECONDS)


@behaviour
def gated(exchange: Exchange) -> None:
    """Answer once the test opens the gate."""
    exchange.wait_for_gate()
    exchange.answer("Hello ", "there.")


@behaviour
def stall_mid_stream(exchange: Exchange) -> None:
    """Say three words and fall silent."""
    _three_words(exchange)
    exchange.wait(HANG_SECONDS)


@behaviour
def reset_mid_stream(exchange: Exchange) -> None:
    """Break off after three words."""
    _three_words(exchange)
    exchange.reset()


@behaviour
def cut_mid_stream(exchange: Exchange) -> None:
    """Close the connection after three words, without the end that HTTP wants."""
    _three_words(exchange)
    exchange.cut()


@behaviour
def ends_mid_stream(exchange: Exchange) -> None:
    """End the answer as HTTP wants, after three words and without a reason, as some proxies do."""
    _three_words(exchange)
    exchange.write(b"0\r\n\r\n")


@behaviour
def error_mid_stream(exchange: Exchange) -> None:
    """Send an error, with a secret in it, after three words."""
    _three_words(exchange)
    exchange.event({"error": {"message": SECRET, "type": "server_error", "code": None}})
    exchange.end_stream()


@behaviour
def reset_at_once(exchange: Exchange) -> None:
    """Break off before the answer."""
    exchange.reset()


def _three_words(exchange: Exchange) -> None:
    exchange.begin_stream()
    for word in WORDS[:3]:
        exchange.delta({"content": word})
    # Time for the words to be read: a reset throws away what lies unread.
    exchange.wait(0.1)
