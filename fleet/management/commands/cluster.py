"""`manage.py cluster`: the complete stack on one machine."""

import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.env import env_str
from fleet.cluster import overrides, status
from fleet.cluster.console import Console
from fleet.cluster.drain import drain, undrain
from fleet.cluster.errors import NO_ROOM, ClusterError
from fleet.cluster.live import table
from fleet.cluster.paths import Layout
from fleet.cluster.postgres.topology import MAX_REPLICAS
from fleet.cluster.processes import read_all
from fleet.cluster.restart import restart
from fleet.cluster.scale import MAX_WORKERS, scale
from fleet.cluster.stack import Stack
from fleet.cluster.status import ProcessStatus


class Command(BaseCommand):
    """Start, stop, scale and show the embedded stack."""

    help = "Run PostgreSQL, Redis, a local model, HAProxy and gunicorn nodes on this machine."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Define the verbs."""
        actions = parser.add_subparsers(dest="action", required=True)
        up = actions.add_parser("up", help="start the stack and stay in the foreground")
        up.add_argument("--nodes", type=_count(1, settings.MAX_NODES), default=2, metavar="N")
        up.add_argument("--workers", type=_count(0, MAX_WORKERS), default=1, metavar="N")
        up.add_argument("--replicas", type=_count(0, MAX_REPLICAS), metavar="N")
        up.add_argument("--no-llm", action="store_true", help="do not start the local model")
        up.add_argument("--autoscale", action="store_true", help="let policies set the sizes")
        actions.add_parser("down", help="stop the running stack")
        show = actions.add_parser("status", help="show the processes of the running stack")
        show.add_argument("--watch", action="store_true", help="show their load every second")
        show.add_argument("--json", action="store_true", dest="as_json")
        size = actions.add_parser("scale", help="change the number of nodes and workers")
        size.add_argument("--nodes", type=_count(1, settings.MAX_NODES), metavar="N")
        size.add_argument("--workers", type=_count(0, MAX_WORKERS), metavar="N")
        size.add_argument("--json", action="store_true", dest="as_json")
        out = actions.add_parser("drain", help="take a node out of rotation")
        out.add_argument("node")
        back = actions.add_parser("undrain", help="put a node back into rotation")
        back.add_argument("node")
        again = actions.add_parser("restart", help="restart a node or worker, or one after another")
        again.add_argument("node", nargs="?")
        again.add_argument("--rolling", action="store_true", help="all of them, one at a time")
        again.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
        again.add_argument("--force", action="store_true", help="apply any migration")
        again.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action; a `ClusterError` becomes one sentence and exit code 1."""
        layout = Layout(state_dir=settings.STATE_DIR)
        verbs = {
            "up": self._up,
            "down": self._down,
            "status": self._status,
            "scale": self._scale,
            "drain": self._drain,
            "undrain": self._undrain,
            "restart": self._restart,
        }
        try:
            verbs[options["action"]](layout, options)
        except ClusterError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise CommandError(f"{error}; free space for STATE_DIR={layout.state_dir}.") from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. Completed steps remain; run the command again, or "
                "`cluster scale`, to complete the change."
            ) from None

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

    def _down(self, layout: Layout, options: dict[str, Any]) -> None:
        was_running = status.stop(layout, on_progress=self._print)
        self._print("The stack is stopped." if was_running else "No stack is running.")

    def _scale(self, layout: Layout, options: dict[str, Any]) -> None:
        nodes, workers = options["nodes"], options["workers"]
        if nodes is None and workers is None:
            raise CommandError("Set the number: --nodes N, --workers N, or both.", returncode=2)
        scale(layout, nodes=nodes, workers=workers, on_progress=self._progress_writer(options))
        self._report(layout, options)

    def _drain(self, layout: Layout, options: dict[str, Any]) -> None:
        drain(layout, options["node"], on_progress=self._print)

    def _undrain(self, layout: Layout, options: dict[str, Any]) -> None:
        undrain(layout, options["node"], on_progress=self._print)

    def _restart(self, layout: Layout, options: dict[str, Any]) -> None:
        if bool(options["node"]) == options["rolling"]:
            raise CommandError(
                "Name a node or worker, or use --rolling for all, one at a time.", returncode=2
            )
        restart(
            layout,
            name=options["node"],
            is_forced=options["force"],
            changes=overrides.parse(options["set"]),
            on_progress=self._progress_writer(options),
        )
        self._report(layout, options)

    def _progress_writer(self, options: dict[str, Any]) -> Callable[[str], None]:
        """Return where progress goes: with --json the result alone is on standard output."""
        return self.stderr.write if options["as_json"] else self._print

    def _report(self, layout: Layout, options: dict[str, Any]) -> None:
        names = {
            kind: [process.name for process in read_all(layout.specs_dir) if process.kind == kind]
            for kind in ("node", "worker")
        }
        if options["as_json"]:
            self.stdout.write(json.dumps({"nodes": names["node"], "workers": names["worker"]}))
        else:
            self._print(", ".join(_of(len(found), kind) for kind, found in names.items()))

    def _status(self, layout: Layout, options: dict[str, Any]) -> None:
        as_json = options["as_json"]
        if options["watch"]:
            self._watch(layout, as_json=as_json)
            return
        found = status.read(layout)
        if as_json:
            self.stdout.write(json.dumps(found.as_dict(), indent=2))
        if found.url is None:
            raise ClusterError(f"No stack is running (STATE_DIR={layout.state_dir}).")
        if as_json:
            return
        self.stdout.write(found.url)
        for one in found.parts:
            self.stdout.write(
                f"  {one.name:<10} {_role(one):<7} {one.state:<9} {one.address:<22} "
                f"process {one.pid or '-'}  up {one.uptime_seconds:.0f} s  "
                f"{one.restarts} restarts"
            )

    def _watch(self, layout: Layout, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(table.once(layout).as_dict(), indent=2))
        else:
            table.watch(layout, write=lambda text: self.stdout.write(text, ending=""))

    def _print(self, text: str) -> None:
        self.stdout.write(text)


def _role(process: ProcessStatus) -> str:
    """Return what the name does not say: which server is the primary changes."""
    return process.kind if process.kind in ("primary", "replica") else ""


def _of(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


def _count(minimum: int, maximum: int) -> Any:
    def parse(raw: str) -> int:
        if not (raw.isascii() and raw.isdecimal()) or not minimum <= int(raw) <= maximum:
            raise ArgumentTypeError(f"must be a number from {minimum} to {maximum}")
        return int(raw)

    return parse
