"""`manage.py chains` and `manage.py check`."""

from __future__ import annotations

import json
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chat.checks import check_chains, check_runnables
from chat.models import Chain
from tests.stack_plugin import EmbeddedStack
from tests.support.calls import manage, run_manage


def run(*arguments: str) -> str:
    """Run `chains` in this process, on the test database."""
    output = StringIO()
    call_command("chains", *arguments, stdout=output, stderr=StringIO())
    return output.getvalue()


@pytest.mark.django_db
def test_load_adds_the_built_in_chains_once() -> None:
    assert run("load") == "added: assistant, summarize\n"
    assert run("load") == "added: nothing, all exist\n"
    assert {chain.slug for chain in Chain.objects.all()} == {"assistant", "summarize"}


@pytest.mark.django_db
def test_load_leaves_what_staff_changed() -> None:
    Chain.objects.create(slug="assistant", runnable="echo", is_enabled=False)
    assert run("load") == "added: summarize\n"
    chain = Chain.objects.get(slug="assistant")
    assert (chain.runnable, chain.is_enabled, chain.version) == ("echo", False, 1)


@pytest.mark.django_db(transaction=True)
def test_loads_at_once_add_each_chain_once() -> None:
    barrier = threading.Barrier(4)
    printed: list[str] = []

    def load() -> None:
        try:
            barrier.wait()
            printed.append(run("load"))
        finally:
            connection.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(printed) == 4
    assert Chain.objects.count() == 2
    assert sum(text.count("assistant") for text in printed) == 1


@pytest.mark.django_db
def test_add_takes_the_mode_of_the_cache() -> None:
    openai = ("--model=openai:gpt-5-mini", "--base-url=http://127.0.0.1:9/v1")
    for slug, words in {"plain": [], "cached": ["--cache-mode", "always"]}.items():
        assert run("add", slug, "--runnable=assistant", *openai, *words) == f"added: {slug}\n"
    modes = dict(Chain.objects.values_list("slug", "cache_mode"))
    assert modes == {"plain": "off", "cached": "always"}
    with pytest.raises(CommandError, match="sometimes"):
        run("add", "other", "--runnable=assistant", *openai, "--cache-mode=sometimes")


@pytest.mark.django_db
def test_list_shows_every_chain_and_the_model_it_calls(settings: Any) -> None:
    settings.LLM_MODEL = "openai:default"
    Chain.objects.create(slug="one", runnable="assistant", model="openai:special")
    Chain.objects.create(slug="two", runnable="echo", is_enabled=False)
    assert json.loads(run("list", "--json")) == [
        {
            "slug": "one",
            "runnable": "assistant",
            "model": "openai:special",
            "version": 1,
            "is_enabled": True,
        },
        {
            "slug": "two",
            "runnable": "echo",
            "model": "openai:default",
            "version": 1,
            "is_enabled": False,
        },
    ]
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines] == ["one", "two"]
    assert "(disabled)" in lines[1]
    assert "(disabled)" not in lines[0]


@pytest.mark.django_db
def test_check_builds_the_enabled_chains(settings: Any) -> None:
    settings.LLM_BASE_URL = "http://127.0.0.1:9/v1"
    Chain.objects.create(slug="good", runnable="assistant")
    Chain.objects.create(slug="off", runnable="nothing", is_enabled=False)
    assert run("check") == "1 chains can be built\n"
    assert json.loads(run("check", "--json")) == {"checked": 1, "problems": {}}


@pytest.mark.django_db
def test_check_names_what_cannot_be_built_and_fails(settings: Any) -> None:
    settings.LLM_BASE_URL = "http://127.0.0.1:9/v1"
    Chain.objects.create(slug="good", runnable="assistant")
    Chain.objects.create(slug="bad-model", runnable="assistant", model="nobody:x")
    Chain.objects.create(slug="bad-runnable", runnable="gone")
    Chain.objects.create(slug="raises", runnable="cannot_be_built")
    output, errors = StringIO(), StringIO()
    with pytest.raises(CommandError, match="3 of 4 chains cannot be built"):
        call_command("chains", "check", "--json", stdout=output, stderr=errors)
    found = json.loads(output.getvalue())
    assert found["checked"] == 4
    assert set(found["problems"]) == {"bad-model", "bad-runnable", "raises"}
    assert "no template for raises" in found["problems"]["raises"][0]
    for slug in found["problems"]:
        assert f"{slug}: " in errors.getvalue()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no.such.module.build", "ModuleNotFoundError"),
        ("tests.chains.no_such_name", "tests.chains"),
        ("tests.chains.SECRET", "neither a Runnable nor a function"),
        ("nodots", "nodots"),
    ],
)
def test_a_broken_runnable_is_a_check_error(settings: Any, path: str, reason: str) -> None:
    settings.CHAIN_RUNNABLES = {"mine": path, "echo": "tests.chains.echo"}
    (error,) = check_runnables(None)
    assert error.id == "chat.E001"
    assert error.msg.startswith(f"mine ({path})")
    assert reason in error.msg


@pytest.mark.django_db
def test_a_broken_chain_is_a_check_error_of_the_database() -> None:
    Chain.objects.create(slug="bad", runnable="gone")
    assert check_chains(None) == []
    (error,) = check_chains(None, databases=["default"])
    assert error.id == "chat.E002"
    assert error.msg.startswith("chain bad: there is no runnable 'gone'")


def test_manage_check_names_a_broken_runnable(stack: EmbeddedStack) -> None:
    done = run_manage(stack, "check", env={"CHAIN_RUNNABLES": "mine=no.such.module"})
    assert done.returncode != 0
    assert "chat.E001" in done.stderr
    assert "mine (no.such.module)" in done.stderr


def test_the_running_stacks_chains_are_listed(stack: EmbeddedStack) -> None:
    rows = json.loads(manage(stack, "chains", "list", "--json"))
    assert {"assistant", "summarize"} <= {row["slug"] for row in rows}
    assert all(row["version"] >= 1 for row in rows)
