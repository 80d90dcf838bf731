"""The reference of commands says what manage.py offers."""

from __future__ import annotations

import argparse
import re

from django.core.management import get_commands, load_command_class

from tests.docs.source import PACKAGES
from tests.docs.texts import document, sections


def commands() -> dict[str, dict[str, argparse.ArgumentParser]]:
    """Return our management commands with their verbs' parsers."""
    found = {}
    for name, app in get_commands().items():
        if app not in PACKAGES:
            continue
        parser = load_command_class(app, name).create_parser("manage.py", name)
        # Verbs are the only choices that have parsers.
        verbs = [a.choices for a in actions_of(parser) if isinstance(a.choices, dict)]
        found[name] = verbs[0] if verbs else {}
    return found


def actions_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return a parser's arguments, options and verbs."""
    # argparse has no public way to list them.
    return parser._actions  # noqa: SLF001


def test_every_command_has_a_section_with_its_options() -> None:
    documented = sections(document("docs/reference/commands.md"))
    expected = {"Commands"}
    for command, verbs in commands().items():
        assert verbs, f"{command} has no verbs: extend this test"
        expected |= {command, *(f"{command} {verb}" for verb in verbs)}
        for verb, parser in verbs.items():
            text = documented.get(f"{command} {verb}", "")
            assert f"manage.py {command} {verb}" in text, f"{command} {verb}"
            options = {o for action in actions_of(parser) for o in action.option_strings}
            options -= {"-h", "--help"}
            found = set(re.findall(r"(?<![\w-])--[a-z-]+", text))
            assert found == options, f"{command} {verb}"
            for action in actions_of(parser):
                if not action.option_strings:
                    assert action.dest.upper() in text, f"{command} {verb} {action.dest}"
    assert documented.keys() == expected
