"""The actuator of Docker Compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from fleet.autoscale.actuators.compose import Compose
from fleet.autoscale.errors import ActuatorError

# Stands in for the engine: counts its containers in a file.
PROGRAM = """
import json, re, sys
from pathlib import Path
state = Path({state!r})
counts = json.loads(state.read_text())
arguments = sys.argv[1:]
assert arguments.pop(0) == "compose"
if arguments[:2] == ["ps", "-q"]:
    print("\\n".join(f"{{n:012x}}" for n in range(counts[arguments[2]])))
elif arguments[0] == "up":
    for option in arguments:
        if match := re.fullmatch(r"--scale=(\\w+)=(\\d+)", option):
            counts[match[1]] = int(match[2])
    state.write_text(json.dumps({{**counts, "arguments": arguments}}))
else:
    sys.exit("no such command")
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "containers.json"
    state.write_text(json.dumps({"web": 2, "worker": 1}))
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(state=str(state)))
    with override_settings(AUTOSCALE_COMPOSE=f"{sys.executable} {path} compose"):
        yield state


def test_it_counts_and_scales_services(program: Path) -> None:
    compose = Compose()
    assert compose.sizes() == {"web": 2, "workers": 1}
    compose.scale({"web": 4})
    assert compose.sizes() == {"web": 4, "workers": 1}
    assert json.loads(program.read_text())["arguments"] == [
        *("up", "--detach", "--no-deps", "--no-recreate", "--scale=web=4", "web")
    ]
    compose.scale({"web": 1, "workers": 3})
    assert compose.sizes() == {"web": 1, "workers": 3}


def test_an_error_of_compose_is_reported(program: Path) -> None:
    program.write_text("{}")
    with pytest.raises(ActuatorError, match="KeyError: 'web'"):
        Compose().sizes()


@override_settings(AUTOSCALE_COMPOSE="/nowhere/docker compose")
def test_a_missing_compose_is_reported() -> None:
    with pytest.raises(ActuatorError, match="No such file"):
        Compose().sizes()


# --- On a real engine ---------------------------------------------------------------------------
IMAGE = "headrace-autoscale-test"
FILE = """
services:
  web: {{image: {image}, command: ["/sleeper"], network_mode: none, stop_grace_period: 1s}}
  worker: {{image: {image}, command: ["/sleeper"], network_mode: none, stop_grace_period: 1s}}
"""


def succeeds(*command: str) -> bool:
    """Return whether a program is there and ends well."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compose_command() -> list[str]:
    """Return the Compose that works here; skip when there is no engine, or no Compose."""
    if not succeeds("docker", "info"):
        pytest.skip("no Docker engine answers")
    for command in (["docker", "compose"], ["docker-compose"]):
        if succeeds(*command, "version"):
            return command
    # An engine in CI comes with Compose; that it does not must be heard.
    if os.environ.get("CI"):
        pytest.fail("there is a Docker engine, and no Docker Compose")
    pytest.skip("Docker Compose is not installed")


def test_it_scales_containers_of_an_engine(tmp_path: Path) -> None:
    command = compose_command()
    # Nothing can be pulled, so the image is one program that sleeps.
    (tmp_path / "sleeper.c").write_text("#include <unistd.h>\nint main() { for (;;) pause(); }\n")
    build = ["gcc", "-static", "-o", str(tmp_path / "sleeper"), str(tmp_path / "sleeper.c")]
    subprocess.run(build, check=True)
    (tmp_path / "compose.yml").write_text(FILE.format(image=IMAGE))
    archive = subprocess.run(
        ["tar", "-C", str(tmp_path), "-c", "sleeper"], capture_output=True, check=True
    )
    subprocess.run(["docker", "import", "-", IMAGE], input=archive.stdout, check=True)
    whole = [*command, "-f", str(tmp_path / "compose.yml"), "-p", f"scale{os.getpid()}"]
    with override_settings(AUTOSCALE_COMPOSE=" ".join(whole)):
        compose = Compose()
        try:
            compose.scale({"web": 1, "workers": 1})
            compose.scale({"web": 3})
            assert compose.sizes() == {"web": 3, "workers": 1}
            compose.scale({"web": 1, "workers": 2})
            assert compose.sizes() == {"web": 1, "workers": 2}
        finally:
            subprocess.run([*whole, "down", "--timeout", "1"], check=False)
            subprocess.run(["docker", "rmi", IMAGE], check=False, capture_output=True)
