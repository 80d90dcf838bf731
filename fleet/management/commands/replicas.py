"""`manage.py replicas`: the database servers, and those of the embedded stack while it runs."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet.cluster.errors import NO_ROOM, ClusterError
from fleet.cluster.paths import Layout
from fleet.cluster.processes import read_all
from fleet.cluster.replicas.add import add
from fleet.cluster.replicas.promote import promote
from fleet.cluster.replicas.remove import remove
from fleet.cluster.replicas.running import RunningStack, hold
from scaling.replicas import detachment, report
from scaling.replicas.probe import StatusProbe
from scaling.replicas.server_checks import check_servers
from scaling.replicas.settings_checks import Finding, Level

CLEAR_SCREEN = "\x1b[H\x1b[2J"
WATCH_SECONDS = 1.0
# The kinds of parts that read from the database servers, and count it.
READERS = ("node", "worker")


class Command(BaseCommand):
    """Show the database servers; add, remove and promote those of the embedded stack."""

    help = "Show the database servers; add, remove and promote those of the embedded stack."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("status", help="show the state of every server")
        show.add_argument("--json", action="store_true")
        show.add_argument("--watch", action="store_true", help="refresh it every second")
        check = verbs.add_parser("check", help="report problems of servers and settings")
        check.add_argument("--json", action="store_true")
        off = verbs.add_parser("detach", help="take a replica out of rotation on every node")
        off.add_argument("name")
        off.add_argument("--json", action="store_true")
        on = verbs.add_parser("attach", help="return a detached replica to rotation")
        on.add_argument("name")
        on.add_argument("--json", action="store_true")
        more = verbs.add_parser("add", help="start one more replica")
        more.add_argument("--json", action="store_true")
        less = verbs.add_parser("remove", help="stop a replica and delete its data")
        less.add_argument("name")
        less.add_argument("--json", action="store_true")
        other = verbs.add_parser("promote", help="make a replica the primary")
        other.add_argument("name")
        other.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one verb; a `ClusterError` becomes one sentence and exit code 1."""
        verbs = {
            "status": self._status,
            "check": self._check,
            "detach": self._detach,
            "attach": self._attach,
            "add": self._add,
            "remove": self._remove,
            "promote": self._promote,
        }
        verbs[options["verb"]](options)

    def _status(self, options: dict[str, Any]) -> None:
        """Exit with 1 when a server does not do its part."""
        probe = StatusProbe(_readers)
        probe.wait_until_stable()
        found = probe.report()
        self._show(found, options)
        with contextlib.suppress(KeyboardInterrupt):
            while options["watch"]:
                probe.watch(WATCH_SECONDS)
                found = probe.report()
                if self.stdout.isatty() and not options["json"]:
                    self.stdout.write(CLEAR_SCREEN, ending="")
                self._show(found, options)
        if not found.is_healthy:
            sys.exit(1)

    def _show(self, found: report.Report, options: dict[str, Any]) -> None:
        """With --watch and --json, each report is a line."""
        if options["json"]:
            indent = None if options["watch"] else 2
            self.stdout.write(json.dumps(found.as_dict(), indent=indent))
        else:
            self.stdout.write(report.table(found))
        self.stdout.flush()

    def _check(self, options: dict[str, Any]) -> None:
        """Exit with 0, or with 1 or 2 when the worst finding is a warning or an error."""
        found = check_servers()
        level = max((finding.level for finding in found), default=Level.OK)
        if options["json"]:
            findings = [_as_dict(finding) for finding in found]
            said = {"level": level.name.lower(), "findings": findings}
            self.stdout.write(json.dumps(said, indent=2))
        else:
            for finding in found:
                self.stdout.write(
                    f"{finding.level.name} {finding.subject}: {finding.text} {finding.advice}"
                )
            if not found:
                self.stdout.write("OK: no problems.")
        if level:
            sys.exit(level)

    def _detach(self, options: dict[str, Any]) -> None:
        self._notify_nodes(options, detachment.detach, "detached")

    def _attach(self, options: dict[str, Any]) -> None:
        self._notify_nodes(options, detachment.attach, "attached")

    def _notify_nodes(
        self, options: dict[str, Any], work: Callable[[str], None], done: str
    ) -> None:
        name = options["name"]
        try:
            work(name)
        except detachment.DetachmentError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"name": name, "is_detached": done == "detached"}))
        else:
            self.stdout.write(f"{name} is {done}; all nodes apply it within a second.")

    def _add(self, options: dict[str, Any]) -> None:
        name = self._on_stack(options, add)
        self.stdout.write(json.dumps({"name": name}) if options["json"] else name)

    def _remove(self, options: dict[str, Any]) -> None:
        self._on_stack(options, lambda stack: remove(stack, options["name"]))
        # A later one may get its name.
        with contextlib.suppress(detachment.DetachmentError):
            detachment.attach(options["name"])
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

        def print_progress(text: str) -> None:
            output.write(text, style_func=str)
            # A person who pipes it sees each step too.
            output.flush()

        layout = Layout(state_dir=settings.STATE_DIR)
        try:
            with hold(layout, on_progress=print_progress) as stack:
                return work(stack)
        except ClusterError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise CommandError(f"{error}; free space for STATE_DIR={layout.state_dir}.") from error
        except KeyboardInterrupt as error:
            raise CommandError("Interrupted; run the command again to complete it.") from error


def _readers() -> list[str]:
    """Return the addresses of the processes of the stack here, if one runs."""
    specs = read_all(Layout(state_dir=settings.STATE_DIR).specs_dir)
    return [spec.address for spec in specs if spec.kind in READERS]


def _as_dict(finding: Finding) -> dict[str, object]:
    return {**asdict(finding), "level": finding.level.name.lower()}
