"""Inputs of one request that are run side by side."""

from __future__ import annotations

from chat.langserve.batch import run_batch
from scaling.replicas import read_context


def test_what_the_items_of_a_batch_write_is_their_requests() -> None:
    context = read_context.start_request()
    try:
        found = run_batch([read_context.current_context] * 3, concurrency=2)
        assert found == [context] * 3
    finally:
        read_context.deactivate()
