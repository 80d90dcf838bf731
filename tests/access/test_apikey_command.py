from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from access.models import ApiKey
from access.services import create_key, find_principal

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("apikey", *words, stdout=out)
    return out.getvalue()


def run_json(*words: str):
    return json.loads(run(*words, "--json"))


def test_create_prints_the_key_this_once():
    out = run("create", "--name", "ci")
    (secret,) = [line for line in out.splitlines() if line.startswith("hr_")]
    assert find_principal(secret).name == "ci"
    assert ApiKey.objects.get().public_id in out
    assert secret not in run("list")


def test_create_as_json_holds_every_option():
    words = ["--account", "acme", "--requests-per-minute", "60", "--tokens-per-day", "5000"]
    words += ["--max-concurrent", "3", "--expires-days", "7", "--scopes", "chat"]
    made = run_json("create", "--name", "ci", *words)
    key = ApiKey.objects.get()
    assert made["id"] == key.public_id
    assert made["id"].startswith("key_")
    assert find_principal(made["key"]).key_id == key.id
    assert (made["name"], made["account"], made["scopes"]) == ("ci", "acme", ["chat"])
    limits = ("requests_per_minute", "tokens_per_day", "max_concurrent")
    assert [made[name] for name in limits] == [60, 5000, 3]
    assert key.expires_at is not None
    assert made["expires_at"] == key.expires_at.isoformat()
    assert made["hint"] == key.hint


def test_create_without_options_makes_a_key_without_limits():
    made = run_json("create", "--name", "ci")
    assert made["account"] == "default"
    assert made["expires_at"] is None
    assert made["requests_per_minute"] == made["tokens_per_day"] == made["max_concurrent"] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--name", ""], "name: This field cannot be blank"),
        (["--name", "a\x00"], "printable"),
        (["--name", "x" * 101], "at most 100 characters"),
        (["--name", "a", "--account", "b\x00"], "account name"),
        (["--name", "a", "--requests-per-minute", "-5"], "requests per minute"),
        (["--name", "a", "--requests-per-minute", "many"], "--requests-per-minute: 'many'"),
        (["--name", "a", "--requests-per-minute", "1.5"], "is not an integer"),
        (["--name", "a", "--tokens-per-day", "9" * 40], "tokens per day"),
        (["--name", "a", "--tokens-per-day", "9" * 9999], "is not an integer"),
        (["--name", "a", "--max-concurrent", "-1"], "max concurrent"),
        (["--name", "a", "--expires-days", "-1"], "expires days"),
        (["--name", "a", "--expires-days", "99999999999"], "expires days"),
        (["--name", "a", "--scopes", "chat,nope"], "'nope' is not a scope"),
        (["--name", "a", "--scopes", ","], "at least one scope"),
    ],
)
def test_bad_options_end_in_a_sentence(words, sentence):
    with pytest.raises(CommandError, match=sentence) as error:
        run("create", *words)
    assert error.value.returncode == 1
    assert not ApiKey.objects.exists()


def test_list_shows_the_newest_first_and_filters_by_account():
    create_key(name="old", account_name="acme")
    create_key(name="new", account_name="zeta")
    assert [key["name"] for key in run_json("list")] == ["new", "old"]
    assert [key["name"] for key in run_json("list", "--account", "acme")] == ["old"]
    assert run_json("list", "--account", "no\x00ne") == []
    assert "key" not in run_json("list")[0]
    lines = run("list").splitlines()
    assert len(lines) == 3
    assert "zeta/new" in lines[1]
    assert "never" in lines[1]


def test_revoke_ends_a_key():
    made = run_json("create", "--name", "ci")
    revoked = run_json("revoke", made["id"])
    assert (revoked["id"], revoked["state"]) == (made["id"], "revoked")
    assert made["id"] in run("revoke", made["id"])
    assert run_json("list")[0]["revoked_at"] == revoked["revoked_at"]


@pytest.mark.parametrize("bad", ["key_" + "0" * 32, "x", "key_", "conv_" + "0" * 32, "key_\x00"])
def test_revoking_what_is_not_there_ends_in_a_sentence(bad):
    with pytest.raises(CommandError, match="There is no"):
        run("revoke", bad)
