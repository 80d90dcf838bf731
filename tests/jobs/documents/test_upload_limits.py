"""Uploads at once, the room that they take, and disks without any."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.files.base import ContentFile
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from access.services import create_key, find_principal
from chat.models import Chain
from config.api.errors import ApiError
from config.api.json import JsonOnly
from jobs.documents.checks import check_upload_room
from jobs.documents.form import read_upload
from jobs.documents.parser import MAX_PARTS, UploadParser
from jobs.documents.uploads import UPLOADS, Uploads, most_bytes
from jobs.models import Job
from jobs.services import submit
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import error_of
from tests.support.waiting import eventually

A, B = uuid.uuid4(), uuid.uuid4()
MIB = 1024 * 1024
PART = b'--b\r\nContent-Disposition: form-data; name="%s"'


def refused(uploads: Uploads, account: uuid.UUID, size: int) -> tuple[int, str]:
    """Return the status and the setting in the message of an upload that is refused."""
    with pytest.raises(ApiError) as caught, uploads.reserve(account, size):
        pass
    assert "Retry-After" in caught.value.headers
    return caught.value.status, re.findall(r"\((\w+)\)", caught.value.message)[0]


def test_uploads_have_a_number_and_a_room_for_an_account_and_for_the_node(settings):
    settings.UPLOAD_CONCURRENCY = 3
    settings.UPLOAD_ACCOUNT_CONCURRENCY = 2
    settings.UPLOAD_BYTES = 100
    settings.UPLOAD_ACCOUNT_BYTES = 80
    uploads = Uploads()
    with ExitStack() as running:
        running.enter_context(uploads.reserve(A, 50))
        assert refused(uploads, A, 31) == (429, "UPLOAD_ACCOUNT_BYTES")
        assert refused(uploads, B, 51) == (503, "UPLOAD_BYTES")
        running.enter_context(uploads.reserve(A, 10))
        assert refused(uploads, A, 1) == (429, "UPLOAD_ACCOUNT_CONCURRENCY")
        running.enter_context(uploads.reserve(B, 40))
        assert refused(uploads, B, 0) == (503, "UPLOAD_CONCURRENCY")
        assert (uploads.count, uploads.reserved_bytes) == (3, 100)
    assert (uploads.count, uploads.reserved_bytes) == (0, 0)
    with uploads.reserve(A, 80):
        pass


def test_a_form_reserves_its_length_or_in_chunks_the_most(settings):
    most = settings.MAX_UPLOAD_BYTES
    assert most_bytes({"CONTENT_LENGTH": "700"}) == 700
    assert most_bytes({}) == 0
    assert most_bytes({"HTTP_TRANSFER_ENCODING": "Chunked", "CONTENT_LENGTH": "9" * 9}) == most
    with pytest.raises(ApiError) as caught:
        most_bytes({"CONTENT_LENGTH": str(most + 1)})
    assert caught.value.code == "document_too_large"


def test_room_for_less_than_the_largest_file_is_a_system_check(settings):
    assert check_upload_room(None) == []
    settings.UPLOAD_ACCOUNT_BYTES = settings.JOB_MAX_FILE_BYTES
    [error] = check_upload_room(None)
    assert "UPLOAD_ACCOUNT_BYTES" in error.msg


# --- A form's file ------------------------------------------------------------------------------
@pytest.fixture
def account(db: None) -> Any:
    """Return the principal of an account that has a chain for documents."""
    Chain.objects.create(slug="uploads", runnable="summarize")
    return find_principal(create_key(name="uploads", account_name="uploads").secret)


def form_request(body: bytes | None = None, **fields: Any) -> Request:
    """Return a request with a form, of a file with some text unless said otherwise."""
    factory = APIRequestFactory()
    if body is None:
        fields = {"chain": "uploads", "file": ContentFile(b"Some text.", "a.txt"), **fields}
        request = factory.post("/v1/jobs", fields)
    else:
        request = factory.post("/v1/jobs", body, content_type="multipart/form-data; boundary=b")
    return Request(request, parsers=[UploadParser()], negotiator=JsonOnly())


def test_the_file_has_no_name_and_is_closed_with_the_request(account: Any):
    request = form_request()
    with read_upload(request, account_id=account.account_id):
        file = request.FILES["file"]
        assert os.fstat(file.fileno()).st_nlink == 0
        assert UPLOADS.count == 1
        assert UPLOADS.reserved_bytes == int(request.META["CONTENT_LENGTH"])
    assert file.closed
    assert UPLOADS.count == 0


@pytest.fixture
def open_files(monkeypatch) -> list[Any]:
    """Return the temporary files that were made."""
    made: list[Any] = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: made.append(make()) or made[-1])
    return made


@pytest.mark.parametrize(
    "body",
    [
        PART % b"file" + b'; filename="a.txt"\r\n\r\nbroken off',
        PART % b"file"
        + b'; filename="a"\r\n\r\n1\r\n'
        + PART % b"file"
        + b'; filename="b"\r\n\r\n2\r\n--b--\r\n',
        PART % b"file"
        + b'; filename="a"\r\n\r\n%b\r\n' % (b"1" * 70_000)
        + (PART % b"x" + b"\r\n\r\n1\r\n") * MAX_PARTS
        + b"--b--\r\n",
        PART % b"file"
        + b'; filename="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n--b--\r\n',
    ],
    ids=["broken off", "two files", "many parts", "no base64"],
)
def test_a_form_at_fault_leaves_no_file(open_files: list[Any], body: bytes):
    with pytest.raises(ApiError), read_upload(form_request(body), account_id=A):
        pass
    assert open_files
    assert all(file.closed for file in open_files)
    assert UPLOADS.count == 0


def test_as_many_parts_as_a_form_may_have_are_read():
    body = (PART % b"x" + b"\r\n\r\n1\r\n") * MAX_PARTS + b"--b--\r\n"
    assert len(form_request(body).POST.getlist("x")) == MAX_PARTS


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size; skip where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_an_upload_that_fills_its_disk_is_a_507(tmp_path: Path, monkeypatch, account: Any):
    file = ContentFile(b"x" * MIB, "a.txt")
    with small_disk(tmp_path / "disk", "256k") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        upload = read_upload(form_request(file=file), account_id=account.account_id)
        with pytest.raises(ApiError) as caught, upload:
            pass
        assert (caught.value.status, caught.value.code) == (507, "storage_full")
        assert os.statvfs(disk).f_bfree == os.statvfs(disk).f_blocks
        assert UPLOADS.count == 0
        # One that fits goes on.
        with read_upload(form_request(), account_id=account.account_id):
            pass


def test_an_original_that_fills_its_disk_is_a_507_and_leaves_nothing(
    tmp_path: Path, settings, account: Any
):
    file = ContentFile(b"x" * MIB, "a.txt")
    with small_disk(tmp_path / "disk", "256k") as disk:
        settings.MEDIA_ROOT = disk
        upload = read_upload(form_request(file=file), account_id=account.account_id)
        with pytest.raises(ApiError) as caught, upload as read:
            submit(account, Chain.objects.get(slug="uploads"), read.submission)
        assert (caught.value.status, caught.value.code) == (507, "storage_full")
        assert not [path for path in disk.rglob("*") if path.is_file()]
    assert not Job.objects.exists()


# --- At a node ----------------------------------------------------------------------------------
@pytest.fixture
def begin(node_urls: list[str], keys: dict[str, dict[str, str]]) -> Iterator[Callable[..., Any]]:
    """Return a way to begin an upload at the first node, of the account "other"."""
    connections = []

    def begin(*, length: int, body: bytes) -> socket.socket:
        address = urlsplit(node_urls[0])
        connection = socket.create_connection((address.hostname, address.port), timeout=20)
        connections.append(connection)
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + keys["other"]["key"].encode() + b"\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: %d\r\n\r\n" % length + body
        )
        return connection

    yield begin
    for connection in connections:
        connection.close()


def uploads_at(url: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return float(re.search(r"^headrace_uploads (\S+)$", text, re.M)[1])  # type: ignore[index]


def wait_for_uploads(url: str, count: int) -> None:
    eventually(
        lambda: uploads_at(url) == count,
        seconds=20,
        what=lambda: f"{count} uploads, not {uploads_at(url)}",
    )


def test_stalled_uploads_of_one_account_leave_others_theirs(
    begin: Callable[..., Any],
    node_urls: list[str],
    keys: dict[str, dict[str, str]],
    stack: EmbeddedStack,
    chains: None,
):
    url = node_urls[0]
    wait_for_uploads(url, 0)
    # Room for two of the largest.
    for _ in range(2):
        begin(length=20 * MIB, body=PART % b"file")
    wait_for_uploads(url, 2)
    # Nothing of its body was sent when this is refused.
    answer = begin(length=20 * MIB, body=b"").recv(65_536)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"UPLOAD_ACCOUNT_BYTES" in answer

    def post(key: str) -> httpx.Response:
        return httpx.post(
            f"{url}/v1/jobs",
            headers={"Authorization": f"Bearer {key}"},
            data={"chain": "mirror"},
            files={"file": ("a.txt", b"x" * 5 * MIB)},
        )

    assert error_of(post(keys["other"]["key"]), 429, "uploads_exceeded")
    assert post(stack.demo_key).status_code in (202, 422)
    # The stalled ones end by themselves; then the account has its room again.
    wait_for_uploads(url, 0)
    assert post(keys["other"]["key"]).status_code in (202, 422)
