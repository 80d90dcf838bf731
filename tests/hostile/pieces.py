"""Forms and headers of many small pieces. A generator of documents is another file like this."""

from __future__ import annotations

from collections.abc import Iterator

from tests.hostile.attack import Attack

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FIELD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
END = b"--b--\r\n"


def attacks() -> Iterator[Attack]:
    """Yield forms, and heads."""
    forms = {
        "fields": b"".join(FIELD % (b"f%d" % number, b"x") for number in range(50_000)) + END,
        "one field": FIELD % (b"chain", b"x" * 3_000_000) + END,
        "a name": FIELD % (b"n" * 1_000_000, b"x") + END,
        "input": FIELD % (b"input", b"[" + b"[]," * 1_000_000) + END,
        "boundaries": b"--b\r\n" * 500_000,
        "line feeds": b"\r\n" * 1_500_000,
        "dashes": b"--b" + b"-" * 3_000_000,
    }
    for name, form in forms.items():
        yield Attack(name=f"form {name}", path="/v1/jobs", content=form, headers=FORM)
    heads = {f"x-header-{number}": "x" * 60 for number in range(90)}
    yield Attack(name="headers", path="/v1/models", content=b"", method="GET", headers=heads)
    long = {"Cache-Control": ",".join("a" * 3 for _ in range(1500))}
    yield Attack(name="a header", path="/v1/models", content=b"", method="GET", headers=long)
