"""`manage.py autoscale`: grow and shrink nodes and workers by policies."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string
from prometheus_client import start_http_server

from fleet.autoscale import history
from fleet.autoscale.errors import AutoscaleError
from fleet.autoscale.lease import Lease
from fleet.autoscale.loop import Loop
from fleet.autoscale.policies import MEASURES, read_policies
from fleet.autoscale.simulation.command import add_simulate_options, simulate
from scaling.redis_client import RedisUnavailable


class Command(BaseCommand):
    """Run the autoscaler, show its decisions, and simulate policies on recorded traffic."""

    help = "Grow and shrink nodes and workers by policies. Without a verb: run."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Define `run` (also without the word), `history` and `simulate`."""
        parser.set_defaults(verb="run")
        _add_run_options(parser, is_verb=False)
        verbs = parser.add_subparsers(dest="verb")
        run = verbs.add_parser("run", help="measure, decide and act until stopped")
        _add_run_options(run, is_verb=True)
        past = verbs.add_parser("history", help="show the last decisions")
        past.add_argument("--json", action="store_true")
        trial = verbs.add_parser("simulate", help="replay recorded traffic through the policies")
        add_simulate_options(trial)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one verb; what is wrong becomes one sentence and exit code 1."""
        verbs = {
            None: self._run,
            "run": self._run,
            "history": self._history,
            "simulate": self._simulate,
        }
        try:
            verbs[options["verb"]](options)
        except AutoscaleError as error:
            raise CommandError(str(error)) from error
        except RedisUnavailable as error:
            raise CommandError(
                f"Redis does not answer ({error}). Start the stack (`make run`), or set REDIS_URL."
            ) from error

    def _run(self, options: dict[str, Any]) -> None:
        loop = Loop(
            policies=read_policies(options["policies"]),
            source=import_string(settings.AUTOSCALE_SOURCE)(),
            actuator=import_string(settings.AUTOSCALE_ACTUATOR)(),
            lease=None if options["dry_run"] else Lease(seconds=settings.AUTOSCALE_LEASE_SECONDS),
            on_progress=self._print,
        )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if options["once"]:
            self._run_once(loop, stop)
            return
        if settings.AUTOSCALE_BIND:
            host, port = settings.AUTOSCALE_BIND.rsplit(":", 1)
            start_http_server(int(port), addr=host)
        loop.run(stop, seconds=settings.AUTOSCALE_SECONDS)

    def _run_once(self, loop: Loop, stop: threading.Event) -> None:
        """Decide once, on rates of AUTOSCALE_SECONDS, and wait for what comes of it."""
        try:
            loop.source.measure(loop.executor.actuator.sizes())
            stop.wait(settings.AUTOSCALE_SECONDS)
            decisions = loop.tick()
            loop.executor.wait()
            if error := loop.executor.take_error():
                raise AutoscaleError(error)
        finally:
            loop.close()
        if not decisions:
            raise CommandError("There are no decisions.")

    def _history(self, options: dict[str, Any]) -> None:
        entries = [entry for fleet in MEASURES for entry in history.read(fleet)]
        entries.sort(key=lambda entry: entry.at, reverse=True)
        if options["json"]:
            self.stdout.write(json.dumps([entry.as_dict() for entry in entries], indent=2))
            return
        for entry in reversed(entries):
            moment = datetime.fromtimestamp(entry.at, tz=UTC)
            size = "-" if entry.size is None else entry.size
            arrow = f"{size} -> {entry.target}" if entry.size != entry.target else f"{size}"
            self.stdout.write(
                f"{moment:%Y-%m-%d %H:%M:%S}  {entry.fleet:<7}  {entry.kind:<8}  {arrow:<8}  "
                f"{entry.reason}"
            )

    def _simulate(self, options: dict[str, Any]) -> None:
        for line in simulate(options, read_policies(options["policies"])):
            self._print(line)

    def _print(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _add_run_options(parser: argparse.ArgumentParser, *, is_verb: bool) -> None:
    """Add the options of `run`, which stand before the verb or after it.

    The verb's own have no default, lest it replace what stood before.
    """
    flag: dict[str, Any] = {"default": argparse.SUPPRESS} if is_verb else {"default": False}
    path: dict[str, Any] = {"default": argparse.SUPPRESS} if is_verb else {"default": None}
    parser.add_argument("--once", action="store_true", help="decide once", **flag)
    parser.add_argument("--dry-run", action="store_true", help="report decisions only", **flag)
    parser.add_argument("--policies", type=Path, metavar="FILE", **path)
