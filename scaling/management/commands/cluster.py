"""`manage.py cluster`: the whole stack on one machine."""

import json
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.env import env_str
from scaling.cluster import status
from scaling.cluster.console import Console
from scaling.cluster.errors import ClusterError
from scaling.cluster.layout import Layout
from scaling.cluster.plan import NODE_SLOTS
from scaling.cluster.postgres.topology import MAX_REPLICAS
from scaling.cluster.stack import Stack
from scaling.cluster.status import PartStatus


class Command(BaseCommand):
    """Start, stop and show the embedded stack."""

    help = "Run PostgreSQL, Redis, a local model, HAProxy and gunicorn nodes on this machine."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Define `up`, `down` and `status`."""
        actions = parser.add_subparsers(dest="action", required=True)
        up = actions.add_parser("up", help="start the stack and stay in the foreground")
        up.add_argument("--nodes", type=_count(1, NODE_SLOTS), default=2, metavar="N")
        up.add_argument("--workers", type=_count(0, 32), default=1, metavar="N")
        up.add_argument("--replicas", type=_count(0, MAX_REPLICAS), metavar="N")
        up.add_argument("--no-llm", action="store_true", help="do not start the local model")
        up.add_argument("--autoscale", action="store_true", help="let policies set the sizes")
        actions.add_parser("down", help="stop the running stack")
        show = actions.add_parser("status", help="show the parts of the running stack")
        show.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action; a `ClusterError` becomes one sentence and exit code 1."""
        layout = Layout(state_dir=settings.STATE_DIR)
        try:
            match options["action"]:
                case "up":
                    self._up(layout, options)
                case "down":
                    was_running = status.stop(layout, say=self._say)
                    self._say("The stack is stopped." if was_running else "No stack is running.")
                case "status":
                    self._status(layout, as_json=options["as_json"])
        except ClusterError as error:
            raise CommandError(str(error)) from error

    def _up(self, layout: Layout, options: dict[str, Any]) -> None:
        has_colours = sys.stdout.isatty() and not env_str("NO_COLOR")
        console = Console(stream=sys.stdout, has_colours=has_colours)
        Stack(layout, console).up(
            nodes=options["nodes"],
            workers=options["workers"],
            replicas=options["replicas"],
            with_llm=not options["no_llm"],
            with_autoscaler=options["autoscale"],
        )

    def _status(self, layout: Layout, *, as_json: bool) -> None:
        found = status.read(layout)
        if as_json:
            self.stdout.write(json.dumps(found.as_dict(), indent=2))
        if found.url is None:
            raise ClusterError(f"No stack is running (STATE_DIR={layout.state_dir}).")
        if as_json:
            return
        self.stdout.write(found.url)
        for part in found.parts:
            self.stdout.write(
                f"  {part.name:<10} {_role(part):<7} {part.state:<9} {part.address:<22} "
                f"process {part.pid or '-'}  up {part.uptime_seconds:.0f} s  "
                f"{part.restarts} restarts"
            )

    def _say(self, text: str) -> None:
        self.stdout.write(text)


def _role(part: PartStatus) -> str:
    """Return what the name does not say: which server is the primary changes."""
    return part.kind if part.kind in ("primary", "replica") else ""


def _count(minimum: int, maximum: int) -> Any:
    def parse(raw: str) -> int:
        if not raw.isdigit() or not minimum <= int(raw) <= maximum:
            raise ArgumentTypeError(f"must be a number from {minimum} to {maximum}")
        return int(raw)

    return parse
