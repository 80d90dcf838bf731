"""Fields that must differ in every response (`id`, `created`)."""

from __future__ import annotations

import time
import uuid

import uuid_utils

from config.api.ids import new_uuid


def completion_ids(run_id: uuid.UUID, created: int) -> tuple[str, str]:
    """Return the texts as a chat completion, or each chunk of one, has them."""
    return f'"id":"chatcmpl-{run_id.hex}"', f'"created":{created}'


def new_completion_ids() -> tuple[bytes, bytes]:
    """Return the texts of a response that is sent now."""
    return (
        # The same version 7 as `new_uuid`, without the object.
        b'"id":"chatcmpl-%b"' % uuid_utils.uuid7().hex.encode(),
        b'"created":%d' % time.time(),
    )


def invoke_ids(run_id: str) -> tuple[str]:
    """Return the text as a response of LangServe's API has it."""
    return (f'"run_id":"{run_id}"',)


def new_invoke_ids(run_id: str | None = None) -> tuple[bytes]:
    """Return the text of a response that is sent now, with the client's own id if it has one."""
    return (b'"run_id":"%b"' % (run_id or str(new_uuid())).encode(),)
