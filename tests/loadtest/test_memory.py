"""The figures of memory over many requests."""

import pytest

from loadtest.provider.memory import growth_of_last_quarter, rows_of

FLAT = [100, 120, 130, 130, 130, 130, 130, 130]


@pytest.mark.parametrize(
    ("values", "growth"),
    [(FLAT, 0.0), ([100] * 7 + [110], 0.1), ([50, 100], 1.0), ([*range(1, 9), *[100] * 8], 0.0)],
)
def test_the_growth_is_that_of_the_last_quarter(values: list[int], growth: float) -> None:
    assert growth_of_last_quarter(values) == pytest.approx(growth)


def test_a_process_that_grows_or_holds_a_burst_is_shown() -> None:
    memory = {"node1": FLAT, "node2": [100] * 7 + [110]}
    before, after = {"node1": 130, "node2": 110}, {"node1": 200, "node2": 110}
    rows = rows_of(1_000, memory, before, after)
    assert [row.passed for row in rows] == [True, False, False, True]
