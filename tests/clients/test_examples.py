"""The examples of the guide are run as they are written, but for the stack's address."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import require
from tests.docs.texts import document, sections
from tests.stack_plugin import BASE_DIR, CLEAN_ENVIRONMENT, EmbeddedStack
from tests.support.waiting import slack

FOLDER = Path(__file__).resolve().parent
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(python|js|bash)\n(.*?)^```", re.M | re.S)
# The local model takes some seconds.
SECONDS = 120.0
EXAMPLES = {
    title: match.groups()
    for title, text in sections(document("docs/guides/clients.md")).items()
    for match in BLOCK.finditer(text)
}
LITELLM_PYTHON = BASE_DIR / ".venv-peers" / "bin" / "python"


def test_the_guide_has_an_example_of_each_client() -> None:
    languages = [language for language, _ in EXAMPLES.values()]
    assert (languages.count("python"), languages.count("js"), languages.count("bash")) == (3, 3, 1)


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_prints_an_answer(stack: EmbeddedStack, tmp_path: Path, title: str) -> None:
    language, source = EXAMPLES[title]
    assert ADDRESS in source
    env = {
        name: value
        for name, value in CLEAN_ENVIRONMENT.items()
        if not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [*_program(language, title), source.replace(ADDRESS, stack.url)],
        env={
            **env,
            "HEADRACE_KEY": stack.demo_key,
            # LiteLLM would download its table of prices.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        # Node looks for packages from here on.
        cwd=FOLDER if language == "js" else tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=slack(SECONDS),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), done.stderr
    if language == "bash":
        assert '"finish_reason"' in done.stdout, done.stdout


def _program(language: str, title: str) -> list[str]:
    """Return the command that runs a source; skips where it is not installed."""
    if language == "bash":
        require(shutil.which("curl") is not None, "no curl")
        return ["bash", "-euc"]
    if language == "js":
        is_installed = (FOLDER / "node_modules" / ".installed").exists()
        require(is_installed, "no clients for Node; make install-clients")
        return [shutil.which("node") or "node", "--input-type=module", "--eval"]
    if title != "LiteLLM":
        return [sys.executable, "-c"]
    # Its packages are those of the bench, which CI does not install.
    if not LITELLM_PYTHON.with_name("litellm").exists():
        pytest.skip("no LiteLLM in .venv-peers; make bench installs it")
    return [str(LITELLM_PYTHON), "-c"]
