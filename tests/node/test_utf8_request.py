"""Content types that Django cannot read, or by which it would read the address."""

from __future__ import annotations

import httpx
import pytest

from tests.support.calls import error_of

# Parameters that cannot be decoded, and codecs that are none for texts.
TYPES = [
    b"application/json; c*=nope''d",
    b"application/json; c*=undefined''d",
    b"application/json; c*0*=a; c*0=b",
    b"application/json; charset=hex",
    b"application/json; charset=undefined",
    b"application/json; charset=idna",
    b"multipart/form-data; boundary*=undefined''b",
    b"; ; ;",
    b"\xff\xfe",
]


@pytest.mark.parametrize("kind", TYPES)
def test_no_content_type_is_an_error_of_ours(http: httpx.Client, kind: bytes):
    headers = [(b"Content-Type", kind)]
    answer = http.get("/v1/jobs?chain=%e9&limit=x", headers=headers)
    assert error_of(answer, 400, None)["param"] == "limit"
    assert http.get("/v1/models", headers=headers).status_code == 200
    assert http.get("/admin/login/?next=%e9", headers=headers).status_code == 200
    answer = http.post("/v1/jobs", content=b"{}", headers=headers)
    assert answer.status_code in (400, 415)
    assert answer.headers["content-type"] == "application/json"
