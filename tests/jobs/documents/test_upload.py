"""`POST /v1/jobs` with a file, over HTTP and through HAProxy."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.files.base import ContentFile
from django.db import DataError, transaction
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from access.services import create_key, find_principal
from chat.models import Chain
from config.api.json import JsonOnly
from jobs.documents.form import read_upload
from jobs.documents.parser import UploadParser
from jobs.models import Job
from jobs.services import submit
from tests.stack_plugin import EmbeddedStack
from tests.support import documents
from tests.support.calls import error_of
from tests.support.waiting import eventually, slack

ENDS = ("succeeded", "failed", "cancelled")
TEXT = ("notes.txt", b"Water comes in at the headrace.", "text/plain")
MIB = 1024 * 1024


def post(http: httpx.Client, file: Any = TEXT, *, headers: Any = None, **fields: Any):
    fields = {"chain": "mirror", **fields}
    return http.post("/v1/jobs", data=fields, files={"file": file}, headers=headers)


def output_of(http: httpx.Client, response: httpx.Response) -> Any:
    """Return the output of a job that was accepted, once it is there."""
    assert response.status_code == 202, response.text
    path = response.headers["Location"]
    eventually(lambda: http.get(path).json()["status"] in ENDS, seconds=30, what="the job ends")
    job = http.get(path).json()
    assert job["status"] == "succeeded", job
    return job["output"]


def media(stack: EmbeddedStack) -> set[Path]:
    """Return the files in the stack's storage."""
    return {path for path in (stack.state_dir / "media").rglob("*") if path.is_file()}


def test_the_text_of_a_hundred_pages_arrives_at_the_chain(http: httpx.Client, stack: EmbeddedStack):
    before = media(stack)
    data = documents.pdf(100)
    response = post(http, ("report.pdf", data, "application/pdf"))
    assert response.json()["file"] == {
        "name": "report.pdf",
        "bytes": len(data),
        "pages": 100,
        "pages_incomplete": 0,
    }
    text = output_of(http, response)["text"]
    assert "This is page 1." in text
    assert "This is page 100." in text
    [kept] = media(stack) - before
    assert kept.name == f"{response.json()['id']}.pdf"
    assert kept.read_bytes() == data
    assert kept.stat().st_mode & 0o077 == 0


def test_summarize_takes_a_document(http: httpx.Client):
    response = post(http, ("a.pdf", documents.pdf(2)), chain="summarize-quick")
    assert output_of(http, response)


def test_a_text_file_has_no_pages(http: httpx.Client):
    response = post(http)
    assert response.json()["file"] == {
        "name": "notes.txt",
        "bytes": 31,
        "pages": None,
        "pages_incomplete": None,
    }
    assert output_of(http, response) == {"text": "Water comes in at the headrace."}


@pytest.mark.parametrize(
    ("chain", "given", "output"),
    [
        ("echo", "", "Water comes in at the headrace."),
        ("question_only", "", "You asked Water comes in at the headrace."),
        ("mirror", '{"tone": "dry"}', {"tone": "dry", "text": "Water comes in at the headrace."}),
    ],
)
def test_the_text_is_put_where_the_chain_takes_it(
    http: httpx.Client, chain: str, given: str, output: Any
):
    assert output_of(http, post(http, chain=chain, input=given)) == output


def test_the_options_are_those_of_json(http: httpx.Client):
    job = post(
        http,
        metadata='{"team": "legal"}',
        priority="9",
        timeout_seconds="77",
        max_attempts="2",
        run_at="2030-01-31T09:00:00Z",
        notify_email="ann@example.org",
    ).json()
    assert job["metadata"] == {"team": "legal"}
    assert (job["priority"], job["timeout_seconds"], job["max_attempts"]) == (9, 77, 2)
    assert job["run_at"] == 1896080400
    assert job["notify_email"] == "ann@example.org"
    http.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"priority": "high"}, 400, None, "priority"),
        ({"priority": "5.0"}, 400, None, "priority"),
        ({"priority": " 5"}, 400, None, "priority"),
        ({"priority": "10"}, 400, None, "priority"),
        ({"max_attempts": "0"}, 400, None, "max_attempts"),
        ({"timeout_seconds": "9" * 30}, 400, None, "timeout_seconds"),
        ({"run_at": "tomorrow"}, 400, None, "run_at"),
        ({"notify_email": "nobody"}, 400, None, "notify_email"),
        ({"metadata": "{"}, 400, "invalid_json", "metadata"),
        ({"metadata": "[1]"}, 400, None, "metadata"),
        ({"metadata": '{"a": "\\u0000"}'}, 400, None, "metadata.a"),
        ({"input": "text"}, 400, "invalid_json", "input"),
        ({"input": '"text"'}, 400, None, "input"),
        ({"input": '{"text": "mine"}'}, 400, None, "input.text"),
        ({"input": "{}", "chain": "echo"}, 400, None, "input"),
        ({"chain": "no-such-chain"}, 404, "model_not_found", "chain"),
        ({"chain": "a\0b"}, 404, "model_not_found", "chain"),
        ({"chain": ""}, 400, None, "chain"),
        ({"chain": ["mirror", "echo"]}, 400, None, "chain"),
        ({"colour": "red"}, 400, "unsupported_parameter", "colour"),
    ],
)
def test_a_wrong_field_is_named(
    http: httpx.Client, fields: dict[str, Any], status: int, code: str | None, param: str
):
    assert error_of(post(http, **fields), status, code)["param"] == param


def test_there_must_be_one_file(http: httpx.Client):
    for files in (
        [("document", TEXT)],
        [("file", TEXT), ("file", TEXT)],
        [("file", TEXT), ("other", TEXT)],
        [("file", ("..", b"text", "text/plain"))],
        [("a", ("", b"", "text/plain"))],
    ):
        response = http.post("/v1/jobs", data={"chain": "mirror"}, files=files)
        assert error_of(response, 400, None)["param"] == "file"
    response = http.post("/v1/jobs", data={"chain": "mirror", "file": "x"}, files={"file": TEXT})
    assert error_of(response, 400, None)["param"] == "file"


def test_a_name_longer_than_a_parts_head_may_be_is_refused(http: httpx.Client):
    error_of(post(http, ("x" * 5000 + ".txt", b"text")), 400, "invalid_form")


def test_a_document_at_fault_leaves_nothing_behind(http: httpx.Client, stack: EmbeddedStack):
    before = media(stack)
    locked = documents.encrypted(documents.pdf(), password="secret")
    for name, data, status, code in (
        ("a.pdf", locked, 422, "document_encrypted"),
        ("a.pdf", b"", 422, "document_empty"),
        ("a.pdf", documents.picture_only(), 422, "document_has_no_text"),
        ("a.zip", b"PK\x03\x04\0", 415, "document_type_unsupported"),
        # Refused by the chain, after the text was read.
        ("a.txt", b"text", 422, "invalid_input"),
    ):
        chain = "divide" if code == "invalid_input" else "mirror"
        error_of(post(http, (name, data), chain=chain), status, code)
    assert media(stack) == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../etc/passwd.txt", "passwd.txt"),
        ("..\\..\\boot.txt", "boot.txt"),
        ("%2e%2e%2fetc.txt", "%2e%2e%2fetc.txt"),
        ("a\u202etxt.fdp.txt", "atxt.fdp.txt"),
        ("x" * 600 + ".txt", "x" * 196 + ".txt"),
        ("Grüße 你好.txt", "Grüße 你好.txt"),
        ("<script>alert(1)<&#47;script>.txt", "script>.txt"),
    ],
)
def test_hostile_names_stay_in_the_storage(
    http: httpx.Client, stack: EmbeddedStack, name: str, shown: str
):
    before = media(stack)
    job = post(http, (name, b"text", "text/plain")).json()
    assert job["file"]["name"] == shown
    [kept] = media(stack) - before
    assert kept.name == f"{job['id']}.txt"


def test_a_repeated_upload_makes_no_second_job(http: httpx.Client, stack: EmbeddedStack):
    before = media(stack)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = post(http, headers=headers, priority="3")
    again = post(http, headers=headers, priority="3")
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(media(stack) - before) == 1
    for other in (
        post(http, ("notes.txt", b"Other text."), headers=headers, priority="3"),
        post(http, headers=headers, priority="4"),
    ):
        error_of(other, 422, "idempotency_key_reused")
    assert len(media(stack) - before) == 1


def test_a_file_may_be_larger_than_other_bodies(http: httpx.Client):
    data = (b"x" * 99 + b"\n") * 48_000
    assert len(data) > 4 * MIB
    assert post(http, ("long.txt", data)).status_code == 202
    response = http.post("/v1/jobs", json={"chain": "mirror", "input": "x" * 5 * MIB})
    error_of(response, 413, "body_too_large")
    # Nor may a form be, at another address.
    response = http.post("/v1/conversations", files={"file": ("long.txt", data)})
    error_of(response, 413, "body_too_large")


def test_a_file_that_is_too_large_is_refused_wherever_it_is_found_out(http: httpx.Client):
    error_of(post(http, ("a.txt", b"x" * (20 * MIB + 1))), 413, "document_too_large")
    # HAProxy knows from the length alone.
    error_of(post(http, ("a.txt", b"x" * 22 * MIB)), 413, "body_too_large")

    def in_chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(22):
            yield b"x" * MIB
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = http.post("/v1/jobs", content=in_chunks(), headers=headers)
    error_of(response, 413, "document_too_large")


def test_a_form_in_chunks_is_read(http: httpx.Client):
    def in_chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="chain"\r\n\r\nmirror\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        yield b"Hel"
        yield b"lo.\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = http.post("/v1/jobs", content=in_chunks(), headers=headers)
    assert output_of(http, response) == {"text": "Hello."}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"no form"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="chain"'),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\ncut off',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 2000 + b"--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--b--\r\n",
        ),
    ],
    ids=range(6),
)
def test_a_malformed_form_is_refused(http: httpx.Client, content_type: str, body: bytes):
    response = http.post("/v1/jobs", content=body, headers={"Content-Type": content_type})
    error_of(response, 400, "invalid_form")


def test_a_form_without_a_body_lacks_its_fields(http: httpx.Client):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert error_of(http.post("/v1/jobs", headers=headers), 400, None)["param"] == "chain"


def test_fields_have_less_room_than_files(http: httpx.Client):
    error_of(post(http, input="x" * 5 * MIB), 413, "body_too_large")


def test_an_upload_that_stalls_is_a_408(stack: EmbeddedStack):
    node = next(part["address"] for part in stack.status()["parts"] if part["kind"] == "node")
    name, port = node.rsplit(":", 1)
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + stack.demo_key.encode() + b"\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b"
        )
        answer = b""
        # The body may come in another packet than the head.
        while not answer.endswith(b"}}") and (data := connection.recv(65_536)):
            answer += data
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "request_timeout"


def test_a_node_answers_others_while_it_reads_documents(
    http: httpx.Client, other_http: httpx.Client
):
    data = documents.pdf(100)
    with ThreadPoolExecutor(5) as pool:
        uploads = [
            pool.submit(post, client, ("long.pdf", data))
            for client in (http, other_http, http, other_http)
        ]
        slowest = 0.0
        while not all(upload.done() for upload in uploads):
            started = time.monotonic()
            assert http.get("/v1/models").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
    assert {upload.result().status_code for upload in uploads} == {202}
    assert slowest < slack(2)


@pytest.mark.django_db
def test_a_file_whose_job_cannot_be_saved_is_removed(settings, tmp_path: Path):
    settings.MEDIA_ROOT = tmp_path
    chain = Chain.objects.create(slug="uploads", runnable="summarize")
    principal = find_principal(create_key(name="uploads", account_name="uploads").secret)
    request = Request(
        APIRequestFactory().post(
            "/v1/jobs",
            {"chain": "uploads", "file": ContentFile(b"Some text.", "a.txt")},
        ),
        parsers=[UploadParser()],
        negotiator=JsonOnly(),
    )

    def files() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    uploading = read_upload(request, account_id=principal.account_id)
    with pytest.raises(DataError), uploading as upload, transaction.atomic():  # noqa: PT012
        assert upload.submission.file is not None
        job = submit(principal, chain, upload.submission)
        assert [path.read_bytes() for path in files()] == [b"Some text."]
        Job.objects.filter(pk=job.pk).update(priority=10**9)
    assert files() == []
