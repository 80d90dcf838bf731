"""Values of every shape that cost most for their bytes, in every place that takes any value."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attack import MAX_BODY_BYTES, MAX_ITEMS, Attack, array, filled, members

MIB = 1024 * 1024
MESSAGE = b'{"role":"user","content":%b}'
# Above what is allowed: they must be refused before they cost anything.
HUGE = {
    "arrays in arrays": b"[" * (MAX_BODY_BYTES - 1000),
    "objects in objects": b'{"a":' * ((MAX_BODY_BYTES - 1000) // 5),
    "empty arrays": filled(b"[]"),
    "empty objects": filled(b"{}"),
    "numbers": filled(b"1e9"),
    "texts": filled(b'""'),
    "names": members(300_000),
    "one number": b"1" * (MAX_BODY_BYTES - 1000),
    "one text": b'"' + b"a" * (MAX_BODY_BYTES - 1000) + b'"',
    "one wide text": b'"' + b"a" * (MAX_BODY_BYTES - 1010) + "\U0001f600".encode() + b'"',
    "one escaped text": b'"' + b"\\u0001" * (MAX_BODY_BYTES // 6 - 200) + b'"',
    "quotation marks": b'"' + b'\\",[' * (MAX_BODY_BYTES // 4 - 300) + b'"',
}
# Just within it: these are read to the end.
ALLOWED = {
    "empty arrays": array(b"[]", MAX_ITEMS // 2 - 50),
    "empty objects": array(b"{}", MAX_ITEMS // 2 - 50),
    "numbers": array(b"1", MAX_ITEMS - 50),
    "objects of many members": array(members(4900), 10),
    "depth": array(b"[" * 20 + b"]" * 20, MAX_ITEMS // 21 - 5),
    "documents": array(b'{"type":"Document","page_content":""}', MAX_ITEMS // 3 - 50),
    "messages": array(b'{"type":"human","content":"a"}', 990),
    "bad messages": array(
        b'{"type":"ai","content":"","tool_calls":' + array(b"{}", 24) + b"}", 990
    ),
    "chunks": array(
        b'{"type":"AIMessageChunk","content":"","tool_call_chunks":'
        + array(b'{"name":"a","args":"{","index":0,"id":"x"}', 7)
        + b"}",
        990,
    ),
    "prompt": b'{"type":"ChatPromptValueConcrete","messages":' + array(b"{}", 24_000) + b"}",
    "one text": b'"' + b"a," * (MIB // 2 - 100_000) + b'"',
}
CHAT = {
    "parts": array(MESSAGE % array(b'{"type":"text","text":""}', 1000), 4),
    "empty parts": array(MESSAGE % array(b"{}", 1000), 24),
    "millions of empty parts": array(MESSAGE % array(b"{}", 1000), 1000),
    "members of a part": array(MESSAGE % array(members(4900), 1), 9),
    "calls": array(
        b'{"role":"assistant","content":"","tool_calls":'
        + array(b'{"id":"a","type":"function","function":{"name":"a","arguments":"{}"}}', 100)
        + b"}",
        70,
    ),
    "arguments": array(
        b'{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":'
        b'{"name":"a","arguments":"' + b"[" + b"[]," * 300_000 + b'"}}]}',
        1,
    ),
}


def attacks() -> Iterator[Attack]:
    """Yield each shape at each address."""
    for kind, values in (("huge", HUGE), ("allowed", ALLOWED)):
        for name, value in values.items():
            for path, body in (
                ("/chains/echo/invoke", b'{"input":%b}' % value),
                ("/chains/echo/stream", b'{"input":%b}' % value),
                ("/chains/echo/batch", b'{"inputs":[%b]}' % value),
                ("/v1/jobs", b'{"chain":"echo","input":%b}' % value),
                ("/v1/chat/completions", b'{"model":"echo","messages":%b}' % value),
                ("/v1/responses", b'{"model":"echo","background":true,"input":%b}' % value),
                ("/v1/conversations", b'{"chain":"echo","metadata":%b}' % value),
            ):
                yield Attack(name=f"{kind} {name} at {path}", path=path, content=body)
    for name, messages in CHAT.items():
        yield Attack(
            name=f"chat {name}",
            path="/v1/chat/completions",
            content=b'{"model":"echo","messages":%b}' % messages,
        )
        yield Attack(
            name=f"response {name}",
            path="/v1/responses",
            content=b'{"model":"echo","background":true,"input":%b}' % messages,
        )
