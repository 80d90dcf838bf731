"""Read server-sent events: the data of each, as bytes.

As the HTML standard says (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines
end by CRLF, LF or CR, a space after the colon is optional, and several data lines are one text.
"""

from __future__ import annotations

DATA = b"data:"
ERROR_NAME = b"error"
DONE = b"[DONE]"


class ErrorData(bytes):
    """The data of an event with the name `error`."""


def data_of(block: bytes) -> list[bytes]:
    """Return the data of the complete events in a block; comments and other fields have none."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = []
    for event in block.split(b"\n\n"):
        if b"\n" not in event and event.startswith(DATA):
            found.append(event[5:].strip())
        elif event:
            found += _data_of_lines(event)
    return found


def _data_of_lines(event: bytes) -> list[bytes]:
    lines, name = [], b""
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip()
    if not lines:
        return []
    data = b"\n".join(lines).strip()
    return [ErrorData(data) if name == ERROR_NAME else data]
