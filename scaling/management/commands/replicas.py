"""`manage.py replicas`: the database servers of the embedded stack while it runs."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from scaling.cluster.errors import ClusterError
from scaling.cluster.layout import Layout
from scaling.cluster.replicas.add import add
from scaling.cluster.replicas.promote import promote
from scaling.cluster.replicas.remove import remove
from scaling.cluster.replicas.running import RunningStack, hold


class Command(BaseCommand):
    """Add, remove and promote database servers."""

    help = "Add, remove and promote database servers of the running embedded stack."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        more = verbs.add_parser("add", help="start one replica more")
        more.add_argument("--json", action="store_true")
        less = verbs.add_parser("remove", help="stop a replica and delete its data")
        less.add_argument("name")
        less.add_argument("--json", action="store_true")
        other = verbs.add_parser("promote", help="make a replica the primary")
        other.add_argument("name")
        other.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one verb; a `ClusterError` becomes one sentence and exit code 1."""
        verbs = {"add": self._add, "remove": self._remove, "promote": self._promote}
        verbs[options["verb"]](options)

    def _add(self, options: dict[str, Any]) -> None:
        name = self._on_stack(options, add)
        self.stdout.write(json.dumps({"name": name}) if options["json"] else name)

    def _remove(self, options: dict[str, Any]) -> None:
        self._on_stack(options, lambda stack: remove(stack, options["name"]))
        if options["json"]:
            self.stdout.write(json.dumps({"name": options["name"]}))

    def _promote(self, options: dict[str, Any]) -> None:
        done = self._on_stack(options, lambda stack: promote(stack, options["name"]))
        if options["json"]:
            self.stdout.write(json.dumps(done.as_dict()))
        elif done.old_primary is None:
            self.stdout.write(f"{done.primary} is the primary.")
        else:
            self.stdout.write(
                f"{done.primary} is the primary; {done.seconds_without_primary:.1f} s without one, "
                f"{done.lost_commits} commits lost."
            )

    def _on_stack(self, options: dict[str, Any], work: Callable[[RunningStack], Any]) -> Any:
        """Run something on the stack's servers; with --json, what happens goes to stderr."""
        output = self.stderr if options["json"] else self.stdout

        def say(text: str) -> None:
            output.write(text, style_func=str)
            # A person who pipes it sees each step too.
            output.flush()

        layout = Layout(state_dir=settings.STATE_DIR)
        try:
            with hold(layout, say=say) as stack:
                return work(stack)
        except ClusterError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError("Cut short; give the command again to end what it began.") from error
