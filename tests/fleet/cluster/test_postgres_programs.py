"""PostgreSQL's programs are run to their end, or to the end of their time."""

import time

import pytest

from fleet.cluster.errors import ProcessFailed
from fleet.cluster.postgres.programs import find_bin, run_tool
from tests.support.waiting import slack


def test_a_program_may_take_its_time_and_no_longer() -> None:
    began = time.monotonic()
    assert run_tool("postgres2", ["sleep", "0.5"], timeout_seconds=5) == ""
    with pytest.raises(ProcessFailed, match=r"sleep took longer than 0\.2 s; allow more"):
        run_tool("postgres2", ["sleep", "30"], timeout_seconds=0.2, advice="; allow more")
    assert time.monotonic() - began < slack(10)


def test_a_failing_programs_error_has_its_output() -> None:
    with pytest.raises(ProcessFailed, match=r"pg_controldata failed: .*no-such-place"):
        run_tool("postgres2", [str(find_bin() / "pg_controldata"), "/no-such-place"])
