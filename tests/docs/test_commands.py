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
        # argparse has no public way to list the verbs.
        verbs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        found[name] = dict(verbs[0].choices) if verbs else {}
    return found


def test_every_command_has_a_section_with_its_options() -> None:
    documented = sections(document("docs/reference/commands.md"))
    expected = {"Commands"}
    for command, verbs in commands().items():
        assert verbs, f"{command} has no verbs: extend this test"
        expected |= {command, *(f"{command} {verb}" for verb in verbs)}
        for verb, parser in verbs.items():
            text = documented.get(f"{command} {verb}", "")
            assert f"manage.py {command} {verb}" in text, f"{command} {verb}"
            options = {o for action in parser._actions for o in action.option_strings}
            options -= {"-h", "--help"}
            found = set(re.findall(r"(?<![\w-])--[a-z-]+", text))
            assert found == options, f"{command} {verb}"
            for action in parser._actions:
                if not action.option_strings:
                    assert action.dest.upper() in text, f"{command} {verb} {action.dest}"
    assert documented.keys() == expected
