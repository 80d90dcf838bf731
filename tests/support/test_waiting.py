from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.waiting import eventually, slack

TESTS = Path(__file__).parents[1]
# An upper bound of what a clock measured, in an assertion.
BOUND = re.compile(r"assert .*monotonic\(\) - \w+ <=? (?!slack\()")
# The end of a poll that is written by hand, because what its loop does is part of the test.
DEADLINE = re.compile(r"deadline = .*monotonic\(\) \+ (?!slack\()")


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, None, "found", "later"])
    assert eventually(lambda: next(values), seconds=5, what="a value", every_seconds=0) == "found"


def test_what_never_holds_fails_with_its_description_and_the_last_value() -> None:
    with pytest.raises(AssertionError, match="a value; the last was 0"):
        eventually(lambda: 0, seconds=0.01, what="a value", every_seconds=0)
    with pytest.raises(AssertionError, match="by a function"):
        eventually(lambda: 0, seconds=0.01, what=lambda: "by a function", every_seconds=0)


def test_only_the_given_errors_count_as_not_yet() -> None:
    def fail() -> bool:
        raise OSError("refused")

    with pytest.raises(AssertionError, match="refused"):
        eventually(fail, seconds=0.01, what="a server", every_seconds=0, errors=(OSError,))
    with pytest.raises(OSError, match="refused"):
        eventually(fail, seconds=0.01, what="a server", every_seconds=0)


def test_slack_widens_waits_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SLACK", 3.0)
    assert slack(0.5) == 1.5
    with pytest.raises(AssertionError, match=r"not within 0\.3\d* s"):
        eventually(lambda: False, seconds=0.1, what="nothing", every_seconds=0)


@pytest.mark.parametrize("pattern", [BOUND, DEADLINE], ids=["bounds", "deadlines"])
def test_no_bound_is_without_slack(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(TESTS)}:{number}"
        for path in sorted(TESTS.rglob("*.py"))
        if path not in (Path(__file__), Path(waiting.__file__))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
