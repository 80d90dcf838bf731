"""`manage.py logins`: look at failed logins, and forget them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from access.logins import attempts
from node.client_address import UNKNOWN, network_of
from scaling.redis_client import RedisUnavailable

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    """Show or reset the counts of failed logins, so that refused staff can log in."""

    help = "Show and reset the counts of failed logins of staff."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb, text in (
            ("show", "Count the failures of a user, an address or both."),
            ("unlock", "Reset the counts, so that logins are allowed at once."),
        ):
            command = verbs.add_parser(verb, help=text)
            command.add_argument("--user", help="The user's name, as it is typed at the login.")
            command.add_argument("--address", help="The client's IP address.")

    def handle(self, *args: Any, **options: Any) -> None:
        of = {name: options[name] for name in ("user", "address") if options[name] is not None}
        if not of:
            raise CommandError("Name a --user, an --address, or both.")
        if "address" in of and network_of(of["address"]) == UNKNOWN:
            raise CommandError(f"--address: {of['address']!r} is not an IP address.")
        try:
            if options["verb"] == "show":
                self._show(of)
            else:
                self._unlock(of)
        except RedisUnavailable as error:
            raise CommandError(
                f"The failures are in Redis, which is unavailable: {error}."
            ) from error

    def _show(self, of: dict[str, str]) -> None:
        for kind, (count, seconds) in attempts.failures(**of).items():
            left = f", reset in {math.ceil(seconds)} s" if count else ""
            self.stdout.write(f"{kind} {of[kind]}: {count} failed logins{left}")

    def _unlock(self, of: dict[str, str]) -> None:
        done = attempts.unlock(**of)
        self.stdout.write("Reset." if done else "There were no failed logins.")
