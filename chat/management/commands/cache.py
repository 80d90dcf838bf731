"""`manage.py cache`: show, clear, warm and inspect the response cache."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from access.models import Account
from chat.caching.explain import explain_key, explain_request, read_request
from chat.caching.statistics import ChainStatistics, read_statistics, total
from chat.caching.warming import Warmer, WarmupProgress
from chat.models import Chain
from config.api.errors import ApiError
from config.env import env_secret
from scaling.response_cache import generations
from scaling.response_cache.results import LOOKUPS
from scaling.response_cache.store import StoreUnavailable

COUNT_CHARS = max(map(len, LOOKUPS))
BAR_CHARS = 30


class Command(BaseCommand):
    """Show, clear, warm and inspect the response cache."""

    help = "Show, clear, warm and inspect the response cache."
    # An operator may be where the chains' own modules are not.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        stats = verbs.add_parser("stats", help="entries, bytes, hits and misses by chain")
        stats.add_argument("--json", action="store_true")
        clear = verbs.add_parser("clear", help="invalidate cached responses on every node")
        which = clear.add_mutually_exclusive_group(required=True)
        which.add_argument("--chain", metavar="SLUG")
        which.add_argument("--account", metavar="NAME")
        which.add_argument("--all", action="store_true")
        warm = verbs.add_parser("warm", help="send each line of a file as a chat completion")
        warm.add_argument("file", type=Path)
        warm.add_argument("--url", default="http://127.0.0.1:8000", help="where Headrace answers")
        warm.add_argument("--concurrency", type=int, default=4)
        warm.add_argument("--json", action="store_true")
        inspect = verbs.add_parser("inspect", help="whether a request would hit, and why not")
        inspect.add_argument("what", help="a key, or a file with a chat completion's body")
        inspect.add_argument("--account", default="default", metavar="NAME")
        inspect.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one verb."""
        verbs = {
            "stats": self._stats,
            "clear": self._clear,
            "warm": self._warm,
            "inspect": self._inspect,
        }
        verbs[options["verb"]](options)

    def _stats(self, options: dict[str, Any]) -> None:
        found = read_statistics()
        everything = total(found.chains)
        if options["json"]:
            data = {
                "total": everything.as_dict(),
                "chains": [chain.as_dict() for chain in found.chains],
                "is_cut": found.is_cut,
                "problems": found.problems,
            }
            self.stdout.write(json.dumps(data))
            return
        head = f"{'chain':24} {'entries':>9} {'bytes':>12} {'hit rate':>8}"
        self.stdout.write(head + "".join(f" {result:>{COUNT_CHARS}}" for result in LOOKUPS))
        for chain in [*found.chains, everything]:
            self.stdout.write(_line(chain))
        if found.is_cut:
            self.stdout.write("There are more entries than could be counted in a moment.")
        for problem in found.problems:
            self.stderr.write(problem)

    def _clear(self, options: dict[str, Any]) -> None:
        if options["all"]:
            name, what = "all", "all answers"
        elif slug := options["chain"]:
            if not Chain.objects.filter(slug=slug).exists():
                raise CommandError(
                    f"There is no chain {slug!r}; `manage.py chains list` shows all."
                )
            name, what = generations.chain_counter(slug), f"the cached responses of chain {slug}"
        else:
            account = _account(options["account"])
            name, what = (
                generations.account_counter(account.pk),
                f"the cached responses of account {account.name}",
            )
        try:
            generations.clear(name)
        except StoreUnavailable as error:
            # A frozen store may still carry the command out when it thaws.
            raise CommandError(
                f"Nothing was cleared yet, the store is unavailable: {error}."
                " Run it again once it is available."
            ) from error
        self.stdout.write(f"Cleared {what}; all nodes apply it within a second.")

    def _warm(self, options: dict[str, Any]) -> None:
        key = env_secret("HEADRACE_KEY")
        if not key:
            raise CommandError("Set HEADRACE_KEY or HEADRACE_KEY_FILE to an API key.")
        if not 1 <= options["concurrency"] <= 256:
            raise CommandError("--concurrency must be from 1 to 256.")
        try:
            warmer = Warmer(
                options["file"], url=options["url"], key=key, concurrency=options["concurrency"]
            )
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        done = warmer.run(self._show_progress if self.stderr.isatty() else lambda _: None)
        if self.stderr.isatty():
            self.stderr.write("")
        if options["json"]:
            self.stdout.write(json.dumps(vars(done)))
        else:
            self.stdout.write(
                f"{done.done} answered, {done.hits} of them from the cache;"
                f" {done.skipped} skipped as done before; {done.failed} failed."
            )
        if done.failed:
            first = done.first_failure.rstrip(".")
            raise CommandError(f"{first}. Run it again to repeat those.")

    def _show_progress(self, state: WarmupProgress) -> None:
        seen = state.done + state.skipped + state.failed
        filled = BAR_CHARS * seen // max(1, state.total)
        bar = "#" * filled + "." * (BAR_CHARS - filled)
        self.stderr.write(f"\r[{bar}] {seen}/{state.total}", ending="")

    def _inspect(self, options: dict[str, Any]) -> None:
        file = Path(options["what"])
        try:
            if file.is_file():
                body = read_request(file.read_bytes())
                found = explain_request(body, _account(options["account"]))
            else:
                found = explain_key(options["what"])
        except ValueError as error:
            raise CommandError(f"{file}: {error}") from error
        except ApiError as error:
            raise CommandError(error.message) from error
        except StoreUnavailable as error:
            raise CommandError(f"The store is unavailable: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(f"{'hit' if found['hit'] else 'no hit'}: {found['why']}")
        for name, value in found.items():
            if name not in ("hit", "why") and value is not None:
                self.stdout.write(f"  {name:18} {value}")


def _line(chain: ChainStatistics) -> str:
    rate = "" if chain.hit_rate is None else f"{100 * chain.hit_rate:.1f}%"
    head = f"{chain.chain or '-':24} {chain.entries:>9} {chain.bytes:>12} {rate:>8}"
    return head + "".join(f" {chain.counts.get(result, 0):>{COUNT_CHARS}}" for result in LOOKUPS)


def _account(name: str) -> Account:
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise CommandError(f"There is no account {name!r}.")
    return account
