"""A policy file says what it means, or where it is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fleet.autoscale.errors import PolicyError
from fleet.autoscale.policies import DEFAULT_FILE, load, parse

GOOD = """
[web]
minimum = 2
maximum = 5
cooldown_up_seconds = 30
cooldown_down_seconds = 300
step_limit = 2
stale_seconds = 30
[[web.rules]]
measure = "cpu_percent"
above = 60
for_seconds = 300
add = 1
add_percent = 10
"""


def test_the_defaults_are_the_usual_policies() -> None:
    policies = load()
    rules = {(r.measure, r.grows): r for r in policies["web"].rules}
    hot, cold = rules["cpu_percent", True], rules["cpu_percent", False]
    assert (hot.threshold, hot.for_seconds, hot.count) == (60, 300, 1)
    assert (cold.threshold, cold.for_seconds, cold.count) == (30, 600, 1)
    busy = rules["requests_per_minute", True]
    assert (busy.threshold, busy.for_seconds, busy.count) == (500, 60, 2)
    assert {"memory_mb", "latency_p95_ms", "queue_ms"} <= {r.measure for r in policies["web"].rules}
    assert {"waiting_jobs", "oldest_wait_seconds"} <= {r.measure for r in policies["workers"].rules}


def test_a_rule_changes_the_count_or_the_share_whichever_is_more() -> None:
    rule = parse(tomllib.loads(GOOD))["web"].rules[0]
    assert [rule.amount(size) for size in (0, 1, 10, 11, 1000)] == [1, 1, 1, 2, 100]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("minimum = 2", "minimum = -1", "minimum must be at least 0"),
        ("minimum = 2", "minimum = 9", "web.minimum: must be at most maximum"),
        ("minimum = 2", "minimum = 2.5", "minimum must be an integer"),
        ("minimum = 2", "minimum = true", "minimum must be an integer"),
        ("minimum = 2", "", "minimum is missing"),
        ("step_limit = 2", "step_limit = 0", "step_limit must be at least 1"),
        ("stale_seconds = 30", "stale_seconds = nan", "stale_seconds must be at least 1"),
        ("stale_seconds = 30", 'stale_seconds = "30"', "stale_seconds must be a number"),
        ("step_limit = 2", "step_limit = 2\nmaximun = 3", "web: 'maximun' is unknown"),
        ("[web]", "[wep]", "'wep' is unknown; supported are web, workers"),
        ("above = 60", "above = 60\nbelow = 3", "number 1: needs either above or below"),
        ("above = 60", "", "number 1: needs either above or below"),
        ("above = 60", "above = inf", "above must be at least 0"),
        ("above = 60", f"above = {10**400}", "above must be at least 0 and at most 1e+12"),
        ("above = 60", "above = 60\nunless = 3", "number 1: 'unless' is unknown"),
        ("add = 1\n", "add = 0\n", "add must be at least 1"),
        ("add = 1\nadd_percent = 10", "", "needs add or add_percent"),
        ("add = 1\n", "remove = 1\n", "remove does not go with above, add does"),
        ("for_seconds = 300", "", "for_seconds is missing"),
        ('"cpu_percent"', '"cpu"', "measure must be one of cpu_percent, latency_p95_ms"),
        ('"cpu_percent"', '["cpu_percent"]', "measure must be one of"),
        ('"cpu_percent"', '"waiting_jobs"', "measure must be one of"),
        ("[[web.rules]]", "[web.rules]", "must be tables, [[web.rules]]"),
        ("[web]", "[web", "policies.toml: "),
    ],
)
def test_an_error_names_its_position_in_the_file(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in GOOD
    path = tmp_path / "policies.toml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(PolicyError) as error:
        load(path)
    assert problem in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_policy_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        load(tmp_path / "none.toml")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="there is no policy"):
        parse({})


def test_the_default_file_is_in_the_package() -> None:
    assert DEFAULT_FILE.is_file()
