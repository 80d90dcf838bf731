"""The few texts of an answer that are new each time it is given: its id, and when it was made."""

from __future__ import annotations

import time
import uuid

import uuid_utils

from config.api.ids import new_uuid


def completion_identity(run_id: uuid.UUID, created: int) -> tuple[str, str]:
    """Return the texts as they stand in a chat completion or in each chunk of one."""
    return f'"id":"chatcmpl-{run_id.hex}"', f'"created":{created}'


def new_completion_identity() -> tuple[bytes, bytes]:
    """Return those of an answer that is given now."""
    return (
        # The same version 7 as `new_uuid`, without the object.
        b'"id":"chatcmpl-%b"' % uuid_utils.uuid7().hex.encode(),
        b'"created":%d' % time.time(),
    )


def invoke_identity(run_id: str) -> tuple[str]:
    """Return the text as it stands in an answer of LangServe's API."""
    return (f'"run_id":"{run_id}"',)


def new_invoke_identity(run_id: str | None = None) -> tuple[bytes]:
    """Return that of an answer that is given now, with the client's own id if it has one."""
    return (b'"run_id":"%b"' % (run_id or str(new_uuid())).encode(),)
