"""The plan of a load test: read from mix.json and the environment, and limited to its bounds.

chat.js reads the same file and variables by the same rules.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIX = Path(__file__).with_name("mix.json")
# What the file must have, and of which type.
MEMBERS: Mapping[str, type | tuple[type, ...]] = {
    "weights": dict,
    "think_seconds": list,
    "repeated_share": (int, float),
    "prompts": list,
    "conversation": dict,
    "job": dict,
    "thresholds": dict,
    "profiles": dict,
    "remote": dict,
}
KINDS = ("chat", "stream", "conversation", "job")
# No user, path or query: what is sent where must be plain to see.
URL = re.compile(r"https?://(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d+)?/?", re.ASCII)


class BadPlan(Exception):
    """The load test must not or cannot run; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A linear way from the users of the stage before to `users`."""

    seconds: float
    users: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A load test with every number settled; `max_requests` 0 is no bound."""

    url: str
    key: str
    models: Mapping[str, str]
    mix: Mapping[str, Any]
    think_seconds: tuple[float, float]
    stages: tuple[Stage, ...]
    max_requests: int

    @property
    def seconds(self) -> float:
        """The seconds in which users come and go; what they have begun may end later."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def users(self) -> int:
        """The most users at a time."""
        return max(stage.users for stage in self.stages)

    def users_at(self, seconds: float) -> int | None:
        """Return how many users there are so long after the start; None after the end."""
        before = 0
        for stage in self.stages:
            if seconds < stage.seconds:
                share = seconds / stage.seconds
                return max(1, round(before + (stage.users - before) * share))
            seconds -= stage.seconds
            before = stage.users
        return None

    def prompt(self) -> str:
        """Return a user's text: one of the file's, or one that was never sent before."""
        text: str = random.choice(self.mix["prompts"])
        if random.random() < self.mix["repeated_share"]:
            return text
        return f"{text} ({uuid.uuid4().hex[:12]})"

    def job_input(self) -> Any:
        """Return a job's input, a prompt instead of PROMPT."""
        text = json.dumps(self.mix["job"]["input"])
        return json.loads(text.replace('"PROMPT"', json.dumps(self.prompt())))


def read(environment: Mapping[str, str] = os.environ) -> Plan:
    """Return the plan of the variables LOAD_*; raises BadPlan.

    Anything but this machine needs LOAD_ALLOW_REMOTE=1, and is then bounded in time, users and
    requests by the file's `remote`, or by LOAD_MAX_SECONDS, LOAD_MAX_USERS and LOAD_MAX_REQUESTS.
    """
    get = {name: value for name, value in environment.items() if value}.get
    path = Path(get("LOAD_MIX", str(MIX)))
    try:
        mix = json.loads(path.read_text(encoding="utf-8"))
        _check_mix(mix)
    except (OSError, ValueError, BadPlan) as error:
        raise BadPlan(f"{path}: {error}") from error
    name = get("LOAD_PROFILE", "load")
    profile = mix["profiles"].get(name)
    if profile is None:
        raise BadPlan(f"LOAD_PROFILE is {name!r}; there are {', '.join(mix['profiles'])}")
    model = get("LOAD_MODEL", "assistant")
    url = get("LOAD_URL", "http://127.0.0.1:8000")
    is_remote = check_url(url, may_be_remote=get("LOAD_ALLOW_REMOTE", "") == "1")
    plan = Plan(
        url=url.rstrip("/"),
        key=get("LOAD_KEY", ""),
        models={
            "chat": model,
            "stream": get("LOAD_STREAM_MODEL", model),
            "conversation": model,
            "job": get("LOAD_JOB_CHAIN", model),
        },
        mix=mix,
        think_seconds=tuple(profile.get("think_seconds", mix["think_seconds"])),
        stages=_stages(
            profile["stages"],
            time_scale=_number("LOAD_TIME_SCALE", get("LOAD_TIME_SCALE", "1")),
            users=int(_number("LOAD_USERS", get("LOAD_USERS", "0"), minimum=0)),
        ),
        max_requests=_bound(get, "requests", mix, is_remote=is_remote),
    )
    if not plan.key:
        raise BadPlan("LOAD_KEY is empty; it is the API key that the requests are sent with")
    for what, value in (("seconds", plan.seconds), ("users", plan.users)):
        most = _bound(get, what, mix, is_remote=is_remote)
        if most and value > most:
            raise BadPlan(
                f"{value:g} {what} are more than {most}; LOAD_MAX_{what.upper()} allows more"
            )
    return plan


def check_url(url: str, *, may_be_remote: bool) -> bool:
    """Return whether a URL leads to another machine; raises BadPlan when it must not."""
    match = URL.fullmatch(url)
    if match is None:
        raise BadPlan(f"LOAD_URL is {url!r}; it must be like http://127.0.0.1:8000")
    host = match["host"].strip("[]")
    try:
        is_remote = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_remote = host != "localhost"
    if is_remote and not may_be_remote:
        raise BadPlan(
            f"{host} is not this machine. Load may only be sent to what is yours to load;"
            " LOAD_ALLOW_REMOTE=1 says that it is"
        )
    return is_remote


def _check_mix(mix: Any) -> None:
    """Raise BadPlan for what is missing from a file of one's own, or does not add up."""
    if not isinstance(mix, dict):
        raise BadPlan("must be an object")
    for name, kind in MEMBERS.items():
        if not isinstance(mix.get(name), kind):
            raise BadPlan(f"{name} is missing, or of another type than in {MIX.name}")
    if unknown := sorted(mix["weights"].keys() - set(KINDS)):
        raise BadPlan(f"weights: {unknown[0]!r} is unknown; there are {', '.join(KINDS)}")
    if not any(mix["weights"].values()) or not mix["prompts"]:
        raise BadPlan("there is no weight above 0, or no prompt")
    for name, profile in mix["profiles"].items():
        if not any(stage["users"] > 0 for stage in profile["stages"]):
            raise BadPlan(f"the profile {name} has no stage with users")


def _stages(stages: list[dict[str, Any]], *, time_scale: float, users: int) -> tuple[Stage, ...]:
    factor = users / max(stage["users"] for stage in stages) if users else 1.0
    return tuple(
        Stage(seconds=stage["seconds"] * time_scale, users=round(stage["users"] * factor))
        for stage in stages
    )


def _bound(get: Any, what: str, mix: Mapping[str, Any], *, is_remote: bool) -> int:
    """Return the most of something that is allowed; 0 is no bound."""
    name = f"LOAD_MAX_{what.upper()}"
    default = mix["remote"][what] if is_remote else 0
    return int(_number(name, get(name, str(default)), minimum=0))


def _number(name: str, text: str, *, minimum: float = 0.001) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not minimum <= number < float("inf"):
        raise BadPlan(f"{name} is {text!r}; it must be a number of {minimum:g} or more")
    return number
