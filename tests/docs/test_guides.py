"""The code and settings of the guides work."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage

from chat.chains.registry import ChatInput, read_chat_input
from tests.docs.settings import settings_read
from tests.docs.texts import document
from tests.stack_plugin import BASE_DIR


def code_block(name: str, language: str) -> str:
    """Return the first block of a language in a document."""
    match = re.search(rf"^```{language}\n(.*?)^```", document(name), flags=re.M | re.S)
    assert match is not None
    return match[1]


def test_the_chain_of_the_guide_works() -> None:
    source = code_block("docs/guides/chains.md", "python")
    assert len(source.splitlines()) < 15
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # noqa: S102 - our own document
    chain = SimpleNamespace(system_prompt="", model=FakeListChatModel(responses=["Arr."]))
    runnable = namespace["build"](chain)
    assert runnable.invoke({"messages": [HumanMessage("hello")]}) == "Arr."
    assert read_chat_input(runnable)[0] is ChatInput.MESSAGES


def production_environment(directory: Path) -> dict[str, str]:
    """Return the guide's settings, their secrets in files of this directory."""
    lines = code_block("docs/guides/production.md", "env").splitlines()
    given = dict(line.split("=", 1) for line in lines)
    values = {
        "SECRET_KEY_FILE": secrets.token_urlsafe(50),
        "DATABASE_URL_FILE": "postgresql://headrace@127.0.0.1:5432/headrace",
        "CACHE_URL_FILE": "redis://127.0.0.1:6379/0",
        "LLM_API_KEY_FILE": "a key",
    }
    assert {name for name in given if name.endswith("_FILE")} == values.keys()
    for name, value in values.items():
        path = directory / name
        path.write_text(value, encoding="utf-8")
        given[name] = str(path)
    return given


def check_deploy(environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check --deploy` with nothing set but this, and no stack in sight."""
    path = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=BASE_DIR,
        env={**path, **environment, "STATE_DIR": str(directory / "none")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_settings_of_the_production_guide_pass_the_deployment_check(tmp_path: Path) -> None:
    environment = production_environment(tmp_path)
    assert set(environment) <= settings_read().keys() | {
        f"{name}_FILE" for name, s in settings_read().items() if s.reader == "env_secret"
    }
    result = check_deploy(environment, tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_deployment_check_fails_without_https(tmp_path: Path) -> None:
    environment = production_environment(tmp_path)
    del environment["HTTPS"]
    assert "security.W008" in check_deploy(environment, tmp_path).stderr
