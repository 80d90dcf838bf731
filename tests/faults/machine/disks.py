"""A disk that is small enough to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = "2m"
BALLAST = ".ballast"


class SmallDisk:
    """A tmpfs at a directory; `is_there` False where this user may not mount one."""

    def __init__(self, path: Path, *, size: str = SIZE) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = f"size={size},mode=0700,uid={os.geteuid()}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(path)],
            capture_output=True,
            check=False,
        )
        self.is_there = done.returncode == 0
        self.problem = done.stderr.decode(errors="replace").strip()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no byte on it for the length of the block; skips without a disk."""
        if not self.is_there:
            pytest.skip(f"a small disk cannot be mounted: {self.problem}")
        ballast = self.path / BALLAST
        try:
            self.fill()
            yield
        finally:
            ballast.unlink(missing_ok=True)

    def fill(self) -> None:
        """Fill the free space."""
        with (self.path / BALLAST).open("ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    @property
    def free(self) -> int:
        """The number of free bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def remove(self) -> None:
        """Unmount it."""
        if self.is_there:
            subprocess.run(["umount", "--lazy", str(self.path)], check=False)
