"""A chain's output as LangServe's stream of events."""

from __future__ import annotations

import orjson

from chat.inputs.encoding import encode
from chat.langserve.calls import run_id_of
from chat.running import sse
from chat.running.execution import Call, Chunks, Heartbeat
from config.api.errors import to_api_error

END = b"event: end\n\n"


def stream_events(call: Call, items: sse.PrimedStream[Chunks | Heartbeat]) -> sse.Events:
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
                yield from sse.joined(sse.event(encode(v), name="data") for v in item.values)
        return END
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        api_error = to_api_error(error)
        data = {"status_code": api_error.status, "message": api_error.message}
        return sse.event(orjson.dumps(data), name="error")
    finally:
        items.close()
