"""Images are pinned by what their registry says, and an image without a digest is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.stack_plugin import BASE_DIR

SCRIPT = BASE_DIR / "deploy/pin_images.py"
DIGEST = "sha256:" + "0123456789abcdef" * 4
VARIABLES = [
    "GRAFANA_IMAGE", "HAPROXY_IMAGE", "POSTGRES_IMAGE", "PROMETHEUS_IMAGE", "PYTHON_IMAGE",
    "REDIS_IMAGE",
]  # fmt: skip


def run(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script with a `docker` of this directory, or with none."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={"PATH": f"{path}:/usr/bin:/bin" if path else "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def docker(directory: Path, script: str) -> Path:
    """Write a `docker` that answers as a registry would."""
    path = directory / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return directory


def test_each_image_of_others_gets_its_digest(tmp_path: Path) -> None:
    done = run(path=docker(tmp_path, f"echo {DIGEST}"))
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert list(lines) == VARIABLES
    assert lines["POSTGRES_IMAGE"] == f"postgres:18-bookworm@{DIGEST}"
    pinned = tmp_path / "pinned.env"
    pinned.write_text(done.stdout, encoding="utf-8")
    assert run("--check", "--env-file", pinned).returncode == 0


def test_what_has_no_digest_is_named(tmp_path: Path) -> None:
    some = tmp_path / "some.env"
    some.write_text(f"PORT=1\nREDIS_IMAGE=redis:8@{DIGEST}\nPOSTGRES_IMAGE=postgres:18\n")
    done = run("--check", "--env-file", some)
    assert done.returncode == 1
    assert "POSTGRES_IMAGE" in done.stderr
    assert "REDIS_IMAGE" not in done.stderr
    assert run("--check", "--env-file", tmp_path / "none").returncode == 1


def test_no_digest_is_made_up(tmp_path: Path) -> None:
    for script in ("echo 'no such host' >&2; exit 1", "echo nothing", "true"):
        done = run(path=docker(tmp_path, script))
        assert done.returncode == 1
        assert done.stdout == ""
