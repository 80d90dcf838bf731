"""The plan of a load test: what it reads, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from loadtest.plan import MIX, BadPlan, Plan, Stage, check_url, read

HERE = MIX.parent


def plan_of(**variables: str) -> Plan:
    """Return the plan of some variables and a key."""
    return read({"LOAD_KEY": "hr_key", **variables})


def test_without_variables_the_load_profile_goes_to_this_machine() -> None:
    plan = plan_of()
    assert plan.url == "http://127.0.0.1:8000"
    assert set(plan.models.values()) == {"assistant"}
    assert (plan.seconds, plan.users, plan.max_requests) == (390, 100, 0)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "https://127.9.9.9/", "http://localhost:1", "http://[::1]:80"]
)
def test_this_machine_is_not_remote(url: str) -> None:
    assert check_url(url, may_be_remote=False) is False


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "http://10.0.0.1:8000",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org:80/",
        "http://[2001:db8::1]",
        "http://0.0.0.0",
    ],
)
def test_another_machine_needs_a_word(url: str) -> None:
    with pytest.raises(BadPlan, match="LOAD_ALLOW_REMOTE"):
        plan_of(LOAD_URL=url)
    assert check_url(url, may_be_remote=True) is True


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "http://127.0.0.1@example.org",
        "http://127.0.0.1:8000/path",
        "http://example.org#127.0.0.1",
        "http://example.org?127.0.0.1",
        "http://127.0.0.1\n",
        "ftp://127.0.0.1",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(BadPlan, match="LOAD_URL"):
        plan_of(LOAD_URL=url, LOAD_ALLOW_REMOTE="1")


def test_another_machine_is_loaded_within_bounds() -> None:
    remote = {"LOAD_URL": "http://example.org", "LOAD_ALLOW_REMOTE": "1"}
    assert plan_of(**remote).max_requests == 50_000
    with pytest.raises(BadPlan, match=r"14760 seconds are more than 900; LOAD_MAX_SECONDS"):
        plan_of(**remote, LOAD_PROFILE="soak")
    with pytest.raises(BadPlan, match="101 users are more than 100; LOAD_MAX_USERS"):
        plan_of(**remote, LOAD_USERS="101")
    more = plan_of(**remote, LOAD_USERS="101", LOAD_MAX_USERS="101", LOAD_MAX_REQUESTS="7")
    assert (more.users, more.max_requests) == (101, 7)


def test_time_and_users_are_scaled() -> None:
    plan = plan_of(LOAD_PROFILE="spike", LOAD_TIME_SCALE="0.1", LOAD_USERS="1000")
    assert plan.seconds == pytest.approx(28)
    assert [stage.users for stage in plan.stages] == [100, 100, 1000, 1000, 100, 100]


def test_users_come_and_go_along_the_stages() -> None:
    plan = plan_of(LOAD_PROFILE="load")
    seen = [plan.users_at(seconds) for seconds in (0, 30, 60, 359, 375, 389.9, 390)]
    assert seen == [1, 50, 100, 100, 50, 1, None]
    assert plan.stages[0] == Stage(seconds=60, users=100)


@pytest.mark.parametrize("value", ["", "0", "-1", "soon", "inf", "nan"])
def test_a_bad_number_is_named(value: str) -> None:
    if value:
        with pytest.raises(BadPlan, match="LOAD_TIME_SCALE"):
            plan_of(LOAD_TIME_SCALE=value)
    else:
        assert plan_of(LOAD_TIME_SCALE=value).seconds == 390


def test_a_missing_key_profile_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="LOAD_KEY"):
        read({})
    with pytest.raises(BadPlan, match="there are smoke, load, stress, spike, soak"):
        plan_of(LOAD_PROFILE="rush")
    with pytest.raises(BadPlan, match=r"none\.json"):
        plan_of(LOAD_MIX=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("member", "value", "problem"),
    [
        (None, [], "must be an object"),
        ("profiles", None, "profiles is missing"),
        ("prompts", "hello", "prompts is missing, or of another type"),
        ("prompts", [], "no prompt"),
        ("weights", {"chats": 1}, "'chats' is unknown; there are chat, stream"),
        ("weights", {"chat": 0}, "no weight above 0"),
        ("profiles", {"load": {"stages": []}}, "the profile load has no stage with users"),
        ("profiles", {"load": {"stages": [{"seconds": 9, "users": 0}]}}, "no stage with users"),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_is_named(
    tmp_path: Path, member: str | None, value: object, problem: str
) -> None:
    path = tmp_path / "mix.json"
    mix = json.loads(MIX.read_text())
    path.write_text(json.dumps({**mix, member: value} if member else value))
    with pytest.raises(BadPlan, match=problem) as error:
        plan_of(LOAD_MIX=str(path))
    assert str(error.value).startswith(f"{path}: ")


def test_prompts_are_repeated_as_often_as_the_file_says(tmp_path: Path) -> None:
    mix = json.loads(MIX.read_text())
    path = tmp_path / "mix.json"
    for share in (0, 1):
        path.write_text(json.dumps({**mix, "repeated_share": share}))
        plan = plan_of(LOAD_MIX=str(path))
        prompts = [plan.prompt() for _ in range(50)]
        assert all(prompt in mix["prompts"] for prompt in prompts) is bool(share)
        assert len(set(prompts)) == 50 or share


def test_a_jobs_input_holds_a_prompt() -> None:
    plan = plan_of()
    [message] = plan.job_input()["messages"]
    assert any(message["content"].startswith(prompt) for prompt in plan.mix["prompts"])


def test_the_variables_are_those_of_the_makefile_and_the_guide() -> None:
    code = "".join((HERE / name).read_text() for name in ("plan.py", "load.py"))
    used = set(re.findall(r"LOAD_([A-Z_]*[A-Z])", code)) - {"MAX"}
    assert set(re.findall(r"LOAD_([A-Z_]*[A-Z])", (HERE / "chat.js").read_text())) <= used | {"MAX"}
    makefile = (HERE.parent / "Makefile").read_text()
    listed = re.search(r"^LOAD_OPTIONS := ((?:.*\\\n)*.*)", makefile, flags=re.MULTILINE)
    assert listed is not None
    assert set(listed[1].replace("\\", "").split()) == used
    guide = (HERE.parent / "docs" / "guides" / "capacity.md").read_text()
    table = guide.split("| variable |", 1)[1].split("\n\n", 1)[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == used | {"ARGS"}
