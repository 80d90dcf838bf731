"""The checker of the fault suite finds what it is for, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.faults.history import Answer, Read, Write, longest_gap, missed, without


def write(value: int | str, at: float, subject: str = "x") -> Write:
    return Write(subject=subject, value=value, began=at - 0.5, ended=at)


def read(shown: int | frozenset[str], at: float, subject: str = "x") -> Read:
    return Read(subject=subject, shown=shown, began=at, ended=at + 0.5)


def answer(at: float, status: int = 200) -> Answer:
    return Answer(kind="get", client="c", status=status, began=at - 0.1, ended=at)


def test_a_read_that_shows_the_last_write_or_a_later_one_is_right() -> None:
    assert missed([write(1, 1), write(2, 2)], [read(2, 3), read(7, 3)]) == []


def test_a_read_that_shows_less_than_was_acknowledged_before_it_is_found() -> None:
    (found,) = missed([write(1, 1), write(2, 2)], [read(1, 2.25)])
    assert found.write.value == 2
    assert found.seconds == 0.25
    assert "was shown 1, without 2" in str(found)


def test_a_write_that_is_acknowledged_while_a_read_runs_may_be_missing() -> None:
    assert missed([write(2, 2)], [read(1, 2), read(1, 1.9)]) == []


def test_every_member_of_a_set_that_is_missing_is_found() -> None:
    writes = [write("a", 1), write("b", 2), write("c", 3)]
    found = missed(writes, [read(frozenset("b"), 2.5)])
    assert [miss.write.value for miss in found] == ["a"]


def test_what_was_not_found_shows_nothing() -> None:
    assert len(missed([write(0, 1)], [read(-1, 2)])) == 1
    assert len(missed([write("a", 1)], [read(frozenset(), 2)])) == 1


def test_writes_of_another_subject_do_not_matter() -> None:
    assert missed([write(5, 1, subject="y")], [read(1, 2)]) == []


def test_writes_that_may_be_lost_are_left_out() -> None:
    found = missed([write(5, 1), write(6, 2)], [read(4, 3)])
    assert [miss.write.value for miss in without(found, lambda write: write.ended > 1.5)] == [5]


@given(st.lists(st.floats(0, 100, allow_nan=False)), st.floats(0, 100), st.integers(0, 30))
def test_a_store_with_one_copy_is_never_blamed(
    times: list[float], read_at: float, late: int
) -> None:
    """Reads of the store's only copy at any moment after they began show all that was done."""
    writes = [write(number, at) for number, at in enumerate(sorted(times), 1)]
    done = sum(w.ended <= read_at + late for w in writes)
    assert missed(writes, [read(done, read_at)]) == []


@given(st.lists(st.floats(0, 100, allow_nan=False), min_size=1), st.integers(0))
def test_a_copy_that_is_behind_is_always_blamed(times: list[float], behind: int) -> None:
    writes = [write(number, at) for number, at in enumerate(sorted(times), 1)]
    shown = behind % len(writes)
    found = missed(writes, [read(shown, 101)])
    assert len(found) == len(writes) - shown


def test_the_longest_time_without_a_success_counts_both_ends() -> None:
    answers = [answer(1), answer(2), answer(2.5, status=503), answer(5)]
    assert longest_gap(answers, began=0, ended=6) == (3, 2)
    assert longest_gap(answers, began=0, ended=9) == (4, 5)
    assert longest_gap([], began=1, ended=4) == (3, 1)
