"""Policies: when a fleet grows and shrinks, as data from a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from fleet.autoscale.errors import PolicyError

DEFAULT_FILE = Path(__file__).with_name("default.toml")
WEB = "web"
WORKERS = "workers"

# What may be measured of a node or worker of each fleet, by its unit.
MEASURES: Mapping[str, frozenset[str]] = {
    WEB: frozenset(
        {
            "cpu_percent",
            "memory_mb",
            "requests_per_minute",
            "latency_p95_ms",
            "queue_ms",
            "sessions",
        }
    ),
    WORKERS: frozenset(
        {"cpu_percent", "memory_mb", "waiting_jobs", "running_jobs", "oldest_wait_seconds"}
    ),
}
# Of these each node or worker has its share, so that fewer have more each.
SHARED_MEASURES = frozenset(
    {"cpu_percent", "requests_per_minute", "sessions", "waiting_jobs", "running_jobs"}
)
MAX_SIZE = 100_000
MAX_SECONDS = 86_400.0
# More than anything that is measured; TOML's integers have no end.
MAX_NUMBER = 1e12


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One sentence of a policy.

    It holds when the mean over `for_seconds` is above `threshold` (a rule that grows) or below it
    (one that shrinks). The change is `count`, or `percent` of the fleet, rounded up, whichever is
    more.
    """

    measure: str
    threshold: float
    for_seconds: float
    grows: bool
    count: int = 0
    percent: float = 0.0

    def holds(self, mean: float) -> bool:
        """Return whether a mean is beyond the threshold."""
        return mean > self.threshold if self.grows else mean < self.threshold

    def amount(self, size: int) -> int:
        """Return the number that the rule adds to a fleet of this size, or removes."""
        return max(self.count, math.ceil(size * self.percent / 100), 1)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The policy of one fleet. Invariant: 0 <= minimum <= maximum, step_limit >= 1."""

    minimum: int
    maximum: int
    cooldown_up_seconds: float
    cooldown_down_seconds: float
    step_limit: int
    stale_seconds: float
    rules: tuple[Rule, ...]

    @property
    def longest_window_seconds(self) -> float:
        """The seconds that a decision looks back."""
        return max((rule.for_seconds for rule in self.rules), default=0.0)


Policies = Mapping[str, Policy]

_NUMBERS = {
    # Name: whether an integer, least, most.
    "minimum": (True, 0, MAX_SIZE),
    "maximum": (True, 1, MAX_SIZE),
    "cooldown_up_seconds": (False, 0.0, MAX_SECONDS),
    "cooldown_down_seconds": (False, 0.0, MAX_SECONDS),
    "step_limit": (True, 1, MAX_SIZE),
    "stale_seconds": (False, 1.0, MAX_SECONDS),
}
_RULE_KEYS = {
    *("measure", "for_seconds", "above", "below"),
    *("add", "add_percent", "remove", "remove_percent"),
}


def load(path: Path = DEFAULT_FILE) -> Policies:
    """Return the policies of a file; raise `PolicyError` that names the file and the position."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return parse(data)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, PolicyError) as error:
        raise PolicyError(f"{path}: {error}") from error


def read_policies(path: Path | None) -> Policies:
    """Return the policies of this file, else of AUTOSCALE_POLICIES, else the usual ones."""
    if path is None and settings.AUTOSCALE_POLICIES:
        path = Path(settings.AUTOSCALE_POLICIES)
    return load(path or DEFAULT_FILE)


def parse(data: Mapping[str, Any]) -> Policies:
    """Return the policies by fleet; one that is left out is not scaled."""
    _refuse_unknown(data, MEASURES.keys(), "")
    if not data:
        raise PolicyError(f"there is no policy; name one of {_list(MEASURES)}")
    return {fleet: _policy(fleet, table) for fleet, table in data.items()}


def _policy(fleet: str, table: Any) -> Policy:
    if not isinstance(table, dict):
        raise PolicyError(f"{fleet}: must be a table, [{fleet}]")
    _refuse_unknown(table, {*_NUMBERS, "rules"}, fleet)
    numbers: dict[str, Any] = {
        name: _number(table, name, fleet, is_integer=is_integer, least=least, most=most)
        for name, (is_integer, least, most) in _NUMBERS.items()
    }
    if numbers["minimum"] > numbers["maximum"]:
        raise PolicyError(f"{fleet}.minimum: must be at most maximum ({numbers['maximum']})")
    rules = table.get("rules", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise PolicyError(f"{fleet}.rules: must be tables, [[{fleet}.rules]]")
    return Policy(
        **numbers,
        rules=tuple(
            _rule(fleet, rule, f"{fleet}.rules, number {number}")
            for number, rule in enumerate(rules, start=1)
        ),
    )


def _rule(fleet: str, table: dict[str, Any], position: str) -> Rule:
    _refuse_unknown(table, _RULE_KEYS, position)
    measure = table.get("measure")
    if not isinstance(measure, str) or measure not in MEASURES[fleet]:
        raise PolicyError(f"{position}: measure must be one of {_list(MEASURES[fleet])}")
    sides = [side for side in ("above", "below") if side in table]
    if len(sides) != 1:
        raise PolicyError(f"{position}: needs either above or below")
    grows = sides == ["above"]
    verb, other = ("add", "remove") if grows else ("remove", "add")
    if wrong := [key for key in (other, f"{other}_percent") if key in table]:
        raise PolicyError(f"{position}: {wrong[0]} does not go with {sides[0]}, {verb} does")
    if verb not in table and f"{verb}_percent" not in table:
        raise PolicyError(f"{position}: needs {verb} or {verb}_percent")
    return Rule(
        measure=measure,
        threshold=float(_number(table, sides[0], position, least=0.0)),
        for_seconds=float(_number(table, "for_seconds", position, least=0.0, most=MAX_SECONDS)),
        grows=grows,
        count=int(
            _number(table, verb, position, is_integer=True, least=1, most=MAX_SIZE, default=0)
        ),
        percent=float(
            _number(table, f"{verb}_percent", position, least=0.01, most=1000.0, default=0.0)
        ),
    )


def _number(
    table: Mapping[str, Any],
    name: str,
    position: str,
    *,
    is_integer: bool = False,
    least: float,
    most: float = MAX_NUMBER,
    default: float | None = None,
) -> float:
    """Return a number of a table; `default` may be beyond the bounds."""
    if name not in table:
        if default is None:
            raise PolicyError(f"{position}: {name} is missing")
        return default
    value = table[name]
    # To Python True is a number.
    if isinstance(value, bool) or not isinstance(value, int if is_integer else int | float):
        raise PolicyError(
            f"{position}: {name} must be {'an integer' if is_integer else 'a number'}"
        )
    # Written so that a NaN, which compares false to all, is refused too.
    if not least <= value <= most:
        raise PolicyError(
            f"{position}: {name} must be at least {least:g} and at most {most:g}, and is {value}"
        )
    return value


def _refuse_unknown(table: Mapping[str, Any], known: Any, position: str) -> None:
    if unknown := sorted(table.keys() - set(known)):
        where = f"{position}: " if position else ""
        raise PolicyError(f"{where}{unknown[0]!r} is unknown; supported are {_list(known)}")


def _list(names: Any) -> str:
    return ", ".join(sorted(names))
