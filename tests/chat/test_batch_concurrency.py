"""How many inputs of a LangServe batch run at a time."""

from __future__ import annotations

from typing import Any

import pytest

from access.principal import Limits
from chat.langserve.schemas import InvokeConfig
from chat.langserve.views import concurrency_of


@pytest.mark.parametrize(
    ("wanted", "max_concurrent", "expected"),
    [(None, 0, 8), (3, 0, 3), (100, 0, 8), (None, 1, 1), (3, 2, 2), (2, 5, 2), (None, 50, 8)],
)
def test_a_batch_runs_no_more_than_the_setting_the_client_and_the_key_allow(
    settings: Any, wanted: int | None, max_concurrent: int, expected: int
) -> None:
    settings.BATCH_CONCURRENCY = 8
    limits = Limits(max_concurrent=max_concurrent)
    assert concurrency_of([InvokeConfig(max_concurrency=wanted)], limits) == expected
