"""A chain's output as LangServe's stream of events."""

from __future__ import annotations

import orjson

from chat import sse
from chat.execution import Call, Chunk, Heartbeat
from chat.langserve.calls import run_id_of
from chat.langserve.encoding import encode
from config.errors import to_api_error

END = b"event: end\n\n"
# Line breaks to Python's `splitlines`, by which the client's HTTP library cuts a stream. JSON may
# hold them as they are, and orjson leaves them so: NEL, and the line and paragraph separators.
LINE_BREAKS = [(char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029"]


def stream_events(call: Call, items: sse.BegunStream[Chunk | Heartbeat]) -> sse.Events:
    """Yield `metadata` and a `data` for each chunk; return `end`, or `error`, which clients raise.

    No event has an id: the client takes every blank line after an id for another event, also
    the one that ends a heartbeat.
    """
    try:
        yield sse.event(orjson.dumps({"run_id": run_id_of(call)}), name="metadata")
        for item in items:
            if isinstance(item, Heartbeat):
                yield sse.heartbeat(item)
            else:
                yield sse.event(_on_one_line(encode(item.value)), name="data")
        return END
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        api_error = to_api_error(error)
        data = {"status_code": api_error.status, "message": api_error.message}
        return sse.event(orjson.dumps(data), name="error")
    finally:
        items.close()


def _on_one_line(data: bytes) -> bytes:
    for char, escape in LINE_BREAKS:
        data = data.replace(char, escape)
    return data
