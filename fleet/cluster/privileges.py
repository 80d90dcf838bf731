"""Run processes under another user, and let them end with the process that watches them."""

import functools
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from django.conf import settings

from fleet.cluster.errors import ClusterError


def is_root() -> bool:
    """Return whether this process is root, under which PostgreSQL refuses to run."""
    return os.geteuid() == 0


def watched(stop_signal: str) -> list[str]:
    """Return the command prefix under which a process gets its stop signal when supervisord dies.

    Without it a process that was restarted after the last record would be missed by the clean-up
    after a `kill -9`. On a system without util-linux there is no prefix.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", stop_signal, "--"] if setpriv else []


def as_postgres(stop_signal: str | None = None) -> list[str]:
    """Return the command prefix for PostgreSQL's programs: an unprivileged user under root.

    The user retains one capability, to pass directories that are closed to it: `STATE_DIR` or the
    virtualenv may lie below a home directory of mode 0700.
    """
    if not is_root():
        return watched(stop_signal) if stop_signal else []
    user = postgres_user()
    command = [
        _setpriv(),
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]
    return [*command, *(["--pdeathsig", stop_signal] if stop_signal else []), "--"]


def give_to_postgres(path: Path) -> None:
    """Make PostgreSQL's user the owner, as it demands of its data directory."""
    if is_root():
        user = postgres_user()
        os.chown(path, user.pw_uid, user.pw_gid)


@functools.cache
def postgres_user() -> pwd.struct_passwd:
    """Return the account that runs PostgreSQL under root."""
    name = settings.EMBEDDED_POSTGRES_USER
    try:
        user = pwd.getpwnam(name)
    except KeyError as error:
        raise ClusterError(f"EMBEDDED_POSTGRES_USER={name}: there is no such user") from error
    if user.pw_uid == 0:
        raise ClusterError("EMBEDDED_POSTGRES_USER must not be root: PostgreSQL refuses it")
    return user


@functools.cache
def check_privileges() -> None:
    """Raise `ClusterError` when this root may not hand PostgreSQL to another user."""
    if not is_root():
        return
    command = [*as_postgres(), "true"]
    probe = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if probe.returncode:
        raise ClusterError(
            "root cannot start PostgreSQL as another user here "
            f"({probe.stderr.strip() or probe.returncode}); run the stack as an ordinary user"
        )


def _setpriv() -> str:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ClusterError(
            "PostgreSQL refuses to run as root, and `setpriv` (package util-linux) is not there "
            "to change the user; install it, or run the stack as an ordinary user"
        )
    return setpriv
