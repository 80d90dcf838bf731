from __future__ import annotations

import pytest

from tests.stack_plugin import BASE_DIR
from tests.support.fault_order import LONGEST_FIRST


@pytest.mark.parametrize("part", LONGEST_FIRST)
def test_what_has_an_order_is_there(part: str) -> None:
    path = BASE_DIR / part
    assert path.is_dir() if part.endswith("/") else path.is_file()
