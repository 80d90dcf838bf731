"""What servers that speak OpenAI's chat completions send besides what OpenAI sends."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.provider.behaviours import HANG_SECONDS, behaviour, hello
from tests.provider.exchange import SECRET, USAGE, Exchange

TEXT = "Grüße, 🌊!"
BIG = 98765432109876543210987
EVENTS = "text/event-stream"


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one chunk of an answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    return {"id": "up-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def answer(message: dict[str, Any], reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    """Return a unary answer."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    body = {"id": "up-1", "object": "chat.completion", "model": "m", "choices": [choice]}
    return {**body, "usage": USAGE, **more}


def lines_of(*chunks: Any, end: str = "\n", done: bool = True) -> bytes:
    """Return chunks as events with lines that end by `end`."""
    events = [json.dumps(item, ensure_ascii=False) for item in chunks] + ["[DONE]"] * done
    return "".join(f"data: {event}{end}{end}" for event in events).encode()


def text_chunks() -> list[dict[str, Any]]:
    """Return TEXT in two chunks, and the end."""
    return [chunk({"content": TEXT[:4]}), chunk({"content": TEXT[4:]}), chunk({}, "stop")]


def send_both(
    exchange: Exchange, message: dict[str, Any], *chunks: dict[str, Any], reason: str = "stop"
) -> None:
    """Send a unary answer, or a stream of chunks."""
    if exchange.is_stream:
        exchange.send_bytes(lines_of(*chunks, chunk({}, reason)), content_type=EVENTS)
    else:
        exchange.send_json(200, answer(message, reason))


# --- Events -------------------------------------------------------------------------------------
@behaviour
def crlf(exchange: Exchange) -> None:
    """End lines by CRLF."""
    exchange.send_bytes(lines_of(*text_chunks(), end="\r\n"), content_type=EVENTS)


@behaviour
def carriage_returns(exchange: Exchange) -> None:
    """End lines by CR alone."""
    exchange.send_bytes(lines_of(*text_chunks(), end="\r"), content_type=EVENTS)


@behaviour
def comments(exchange: Exchange) -> None:
    """Send comments, ids, retry times and names with and between the events."""
    first, *rest = text_chunks()
    noise = b": OPENROUTER PROCESSING\n\n:\n\nid: 7\nretry: 100\n\nevent: ping\n\n"
    data = noise + b"event: chunk\nid: 8\n" + lines_of(first, done=False) + noise + lines_of(*rest)
    exchange.send_bytes(data, content_type=EVENTS)


@behaviour
def no_space(exchange: Exchange) -> None:
    """Leave out the space after the colon."""
    data = lines_of(*text_chunks()).replace(b"data: ", b"data:")
    exchange.send_bytes(data, content_type=EVENTS)


@behaviour
def several_data_lines(exchange: Exchange) -> None:
    """Send each chunk as an indented JSON, a line of it in each data line."""
    events = [json.dumps(item, indent=1).replace("\n", "\ndata: ") for item in text_chunks()]
    data = "".join(f"data: {event}\n\n" for event in events) + "data: [DONE]\n\n"
    exchange.send_bytes(data.encode(), content_type=EVENTS)


@behaviour
def no_done(exchange: Exchange) -> None:
    """End after the finish reason, without the mark."""
    exchange.send_bytes(lines_of(*text_chunks(), done=False), content_type=EVENTS)


@behaviour
def no_last_line_end(exchange: Exchange) -> None:
    """End without the empty line after the last event."""
    exchange.send_bytes(lines_of(*text_chunks()).rstrip(), content_type=EVENTS)


@behaviour
def single_bytes(exchange: Exchange) -> None:
    """Send each byte in an HTTP chunk of its own, also within a character."""
    exchange.begin_stream()
    for byte in lines_of(*text_chunks()):
        exchange.write(b"1\r\n%c\r\n" % byte)
    exchange.write(b"0\r\n\r\n")


@behaviour
def byte_order_mark(exchange: Exchange) -> None:
    """Begin with a byte order mark."""
    data = lines_of(*text_chunks()) if exchange.is_stream else json.dumps(answer({"content": TEXT}))
    data = data if isinstance(data, bytes) else data.encode()
    content_type = EVENTS if exchange.is_stream else "application/json"
    exchange.send_bytes(b"\xef\xbb\xbf" + data, content_type=content_type)


@behaviour
def plain_text_events(exchange: Exchange) -> None:
    """Send events as plain text."""
    exchange.send_bytes(lines_of(*text_chunks()), content_type="text/plain")


@behaviour
def json_for_a_stream(exchange: Exchange) -> None:
    """Answer a stream with JSON."""
    exchange.send_json(200, answer({"content": TEXT}))


@behaviour
def events_for_unary(exchange: Exchange) -> None:
    """Answer everything with events."""
    exchange.send_bytes(lines_of(*text_chunks()), content_type=EVENTS)


@behaviour
def compressed(exchange: Exchange) -> None:
    """Compress what may be compressed."""
    assert "gzip" in exchange.call.headers["accept-encoding"]
    data = lines_of(*text_chunks()) if exchange.is_stream else json.dumps(answer({"content": TEXT}))
    data = data if isinstance(data, bytes) else data.encode()
    exchange.send_bytes(
        gzip.compress(data),
        content_type=EVENTS if exchange.is_stream else "application/json",
        headers={"Content-Encoding": "gzip"},
    )


@behaviour
def early_hints(exchange: Exchange) -> None:
    """Send two interim answers first."""
    exchange.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    hello(exchange)


@behaviour
def html(exchange: Exchange) -> None:
    """Answer as a proxy's login page."""
    exchange.send_bytes(b"<html><body>" + SECRET.encode(), content_type="text/html")


# --- Members of an answer -----------------------------------------------------------------------
@behaviour
def reasoning_content(exchange: Exchange) -> None:
    """Reason as DeepSeek and vLLM do."""
    send_both(
        exchange,
        {"content": "42", "reasoning_content": "Six by nine."},
        chunk({"role": "assistant", "content": None, "reasoning_content": "Six "}),
        chunk({"reasoning_content": "by nine."}),
        chunk({"content": "42"}),
    )


@behaviour
def reasoning(exchange: Exchange) -> None:
    """Reason as OpenRouter does, and under the older name too."""
    text = {"reasoning": "Six by nine.", "reasoning_content": "Six by nine."}
    send_both(exchange, {"content": "42", **text}, chunk(text), chunk({"content": "42"}))


@behaviour
def thinking_parts(exchange: Exchange) -> None:
    """Reason in parts of the content, as Mistral's models do."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Six by nine."}]},
        {"type": "text", "text": "42"},
    ]
    send_both(exchange, {"content": parts}, *(chunk({"content": [part]}) for part in parts))


@behaviour
def refusing(exchange: Exchange) -> None:
    """Refuse."""
    send_both(
        exchange,
        {"content": None, "refusal": "Not that."},
        chunk({"role": "assistant", "content": None}),
        chunk({"refusal": "Not "}),
        chunk({"refusal": "that."}),
    )


@behaviour
def log_probabilities(exchange: Exchange) -> None:
    """Send a log probability of -Infinity, as Python writes it."""
    logprobs = {"content": [{"token": "a", "logprob": float("-inf"), "top_logprobs": []}]}
    if exchange.is_stream:
        chunks = (chunk({"content": "a"}, logprobs=logprobs), chunk({}, "stop"))
        exchange.send_bytes(lines_of(*chunks), content_type=EVENTS)
    else:
        body = answer({"content": "a"})
        body["choices"][0]["logprobs"] = logprobs
        exchange.send_json(200, body)


@behaviour
def several_choices(exchange: Exchange) -> None:
    """Answer with two choices."""
    if not exchange.is_stream:
        body = answer({"content": "first"})
        body["choices"].append({**body["choices"][0], "index": 1, "message": {"content": "other"}})
        exchange.send_json(200, body)
        return
    chunks = [chunk({"content": text}, index=i) for text in ("fi", "rst") for i in (0, 1)]
    exchange.send_bytes(lines_of(*chunks, chunk({}, "stop")), content_type=EVENTS)


@behaviour
def half_emoji(exchange: Exchange) -> None:
    """Cut text within a surrogate pair, and send the first half of another alone."""
    halves = [{"content": "a\ud83c"}, {"content": "\udf0ab"}, {"content": "\ud83c"}]
    events = [json.dumps(chunk(delta)) for delta in halves] + [json.dumps(chunk({}, "stop"))]
    data = "".join(f"data: {event}\n\n" for event in events)
    exchange.send_bytes(data.encode(), content_type=EVENTS)


# --- Usage and finish reasons -------------------------------------------------------------------
def _with_usages(exchange: Exchange, *usages: Any) -> None:
    chunks = [{**item, "usage": usages[0]} for item in text_chunks()]
    chunks += [{"choices": [], "usage": usage} for usage in usages]
    exchange.send_bytes(lines_of(*chunks), content_type=EVENTS)


@behaviour
def usage_null(exchange: Exchange) -> None:
    """Report nulls."""
    _with_usages(exchange, dict.fromkeys(USAGE))


@behaviour
def usage_in_each_chunk(exchange: Exchange) -> None:
    """Report a running total in each chunk."""
    _with_usages(exchange, {**USAGE, "completion_tokens": 1}, USAGE)


@behaviour
def usage_twice(exchange: Exchange) -> None:
    """Report the total twice."""
    _with_usages(exchange, USAGE, USAGE)


@behaviour
def no_reason(exchange: Exchange) -> None:
    """End the stream by its mark, and give no reason."""
    exchange.send_bytes(lines_of(*text_chunks()[:2]), content_type=EVENTS)


@behaviour
def reason_error(exchange: Exchange) -> None:
    """Fail midway, by a finish reason."""
    send_both(exchange, {"content": "ha"}, chunk({"content": "ha"}), reason="error")


@behaviour
def reason_in_each_chunk(exchange: Exchange) -> None:
    """Repeat the finish reason."""
    chunks = [*text_chunks(), chunk({}, "stop"), chunk({}, "stop")]
    exchange.send_bytes(lines_of(*chunks), content_type=EVENTS)


@behaviour
def reset_after_the_reason(exchange: Exchange) -> None:
    """Break off between the finish reason and the end."""
    exchange.begin_stream()
    for item in text_chunks():
        exchange.event(item)
    exchange.wait(0.1)
    exchange.reset()


# --- Silence ------------------------------------------------------------------------------------
@behaviour
def silent_after_the_role(exchange: Exchange) -> None:
    """Send the role, and then comments for ever."""
    exchange.begin_stream()
    exchange.delta({"role": "assistant", "content": ""})
    for _ in range(int(HANG_SECONDS * 20)):
        exchange.write(b"5\r\n: x\n\n\r\n".replace(b"5", b"%x" % len(b": x\n\n")))
        exchange.wait(0.05)


# --- Errors -------------------------------------------------------------------------------------
@behaviour
def busy_in_200(exchange: Exchange) -> None:
    """Be busy, with the status inside an answer of status 200."""
    error = {"error": {"message": SECRET, "code": 429}}
    if exchange.is_stream:
        exchange.send_bytes(lines_of(error, done=False), content_type=EVENTS)
    else:
        exchange.send_json(200, error)


@behaviour
def named_error_event(exchange: Exchange) -> None:
    """Send an error as an event of that name, without an envelope."""
    data = b'event: error\ndata: {"message": "x", "type": "overloaded_error"}\n\n'
    exchange.send_bytes(data, content_type=EVENTS)


@behaviour
def quota_429(exchange: Exchange) -> None:
    """Have no credit left."""
    exchange.send_json(429, _error("no credit", "insufficient_quota", "insufficient_quota"))


@behaviour
def overloaded_529(exchange: Exchange) -> None:
    """Be overloaded, as Anthropic's API says it."""
    exchange.send_json(529, _error("x", "overloaded_error"), {"Retry-After": "0.05"})


@behaviour
def busy_until_a_date(exchange: Exchange) -> None:
    """Be busy until a date."""
    headers = {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}
    exchange.send_json(429, _error("x", "rate_limit_error"), headers)


@behaviour
def context_vllm(exchange: Exchange) -> None:
    """Refuse a long context as vLLM does."""
    words = "maximum context length is 8192 tokens, the prompt contains at least 9100 input tokens"
    exchange.send_json(400, _error(words, "BadRequestError", 400))


@behaviour
def context_old_vllm(exchange: Exchange) -> None:
    """Refuse a long context as vLLM did, without an envelope."""
    words = "This model's maximum context length is 4096 tokens."
    body = {"object": "error", "message": words, "type": "BadRequestError", "code": 400}
    exchange.send_json(400, body)


@behaviour
def context_llama_cpp(exchange: Exchange) -> None:
    """Refuse a long context as llama.cpp does."""
    exchange.send_json(400, _error("x", "exceed_context_size_error", 400))


@behaviour
def context_413(exchange: Exchange) -> None:
    """Refuse a large request."""
    exchange.send_json(413, _error("request too large", "invalid_request_error", 413))


@behaviour
def filter_azure(exchange: Exchange) -> None:
    """Refuse by a content filter, as Azure does."""
    exchange.send_json(400, _error("filtered", None, "content_filter"))


@behaviour
def error_text(exchange: Exchange) -> None:
    """Send an error that is a text, as Ollama does."""
    exchange.send_json(500, {"error": SECRET})


@behaviour
def error_list(exchange: Exchange) -> None:
    """Send an error in a list, as Gemini's compatible API does."""
    body = _error("x exceeds the maximum number of tokens", "INVALID_ARGUMENT", 400)
    exchange.send_json(400, [body])


def _error(message: str, kind: str | None, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@behaviour
def redirecting(exchange: Exchange) -> None:
    """Redirect to another page."""
    exchange.send(302, b"", {"Location": "/login"})
