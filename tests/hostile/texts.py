"""Long texts for the chains that cut or match them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attack import MAX_BODY_BYTES, Attack

UNITS = (b"a", b" ", b"\\n\\n", b"a. ", "é".encode(), "\U0001f600".encode(), b"\\u0000")


def attacks() -> Iterator[Attack]:
    """Yield a document of each unit, as large as a body may be."""
    for unit in UNITS:
        text = unit * ((MAX_BODY_BYTES - 1000) // len(unit))
        yield Attack(
            name=f"summarize {unit!r}",
            path="/chains/digest/invoke",
            content=b'{"input":{"text":"%b"}}' % text,
        )
