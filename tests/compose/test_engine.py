"""Leftovers of the tests' own engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compose.engine import unmount_below


def test_a_directory_can_be_removed_with_mounts_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "an engine"
    inner = directory / "exec" / "netns" / "default"
    inner.parent.mkdir(parents=True)
    inner.touch()
    mounts = [
        ["mount", "-t", "tmpfs", "tmpfs", str(directory / "exec")],
        ["mount", "--bind", "/proc/self/ns/net", str(inner)],
    ]
    if subprocess.run(mounts[0], capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    inner.parent.mkdir()
    inner.touch()
    subprocess.run(mounts[1], check=True)
    with pytest.raises(OSError, match="busy"):
        inner.unlink()

    unmount_below(directory)

    shutil.rmtree(directory)
    assert not directory.exists()
