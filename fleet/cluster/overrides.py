"""Settings of nodes and workers that were changed while the stack runs.

They come on top of the environment of `cluster up`, and win over it. The next `cluster up` begins
without.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout, write_private

# Where a process is, and when supervisord kills it, is not for the process alone to know.
FIXED = {"STATE_DIR", "PORT", "STATS_PORT", "BIND", "NODE_NAME", "WORKER_BIND", "WORKER_NAME"}
FIXED |= {"DRAIN_FILE", "DRAIN_SECONDS", "DRAIN_SETTLE_SECONDS"}
# supervisord would read these as something else.
FORBIDDEN = set("\"'\\\n\r")


def load(layout: Layout) -> dict[str, str]:
    """Return what was changed, by the names of the variables."""
    try:
        values: dict[str, str] = json.loads(layout.overrides_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return values


def attempt(layout: Layout, changes: Mapping[str, str]) -> None:
    """Apply the changes to every process that starts from now on, until `roll_back` or `commit`.

    The next command rolls back an attempt whose command died before either.
    """
    before = load(layout)
    _write(layout.overrides_before_file, before)
    _write(layout.overrides_file, {**before, **changes})


def commit(layout: Layout) -> None:
    """Make an attempt's changes permanent."""
    layout.overrides_before_file.unlink(missing_ok=True)


def roll_back(layout: Layout) -> None:
    """Restore the values from before an attempt, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        layout.overrides_before_file.replace(layout.overrides_file)


def _write(path: Path, values: Mapping[str, str]) -> None:
    write_private(path, json.dumps(values) + "\n")


def parse(given: list[str]) -> dict[str, str]:
    """Return `NAME=VALUE` texts as a map; raise `ClusterError` for one that cannot be."""
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or not name.isupper():
            raise ClusterError(f"--set {text}: must be NAME=VALUE.")
        if name in FIXED:
            raise ClusterError(f"--set {name}: cannot change while the stack runs.")
        if FORBIDDEN & set(value):
            raise ClusterError(f"--set {name}: no quotes, backslashes or line breaks, please.")
        values[name] = value
    return values
