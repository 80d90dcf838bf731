"""Entries as tests of the response cache want them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from scaling.response_cache.entry import Entry


def make_entry(body: bytes = b'{"text":"an answer"}', **more: Any) -> Entry:
    """Return an entry that was stored just now and is fresh for a minute."""
    entry = Entry(
        body=body,
        content_type="application/json",
        stored_at=time.time(),
        fresh_seconds=60.0,
        stale_seconds=0.0,
        stale_if_error_seconds=0.0,
        volatile_texts=(),
        prompt_tokens=1,
        completion_tokens=2,
        chain="test",
    )
    return replace(entry, **more)
