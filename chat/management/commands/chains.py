"""`manage.py chains`: load the built-in chains, add, list and check them."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chat.chains.config import config_of
from chat.chains.registry import find_problems
from chat.errors import BadChain
from chat.models import Chain
from chat.services import add_chain, load_built_in_chains
from scaling.response_cache.policy import CacheMode


class Command(BaseCommand):
    """Load, add, list and check chains."""

    help = "Load the built-in chains, add one, list all, or check that each can be built."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("load", help="add the built-in chains that are missing")
        add = verbs.add_parser("add", help="add a chain")
        add.add_argument("slug", help="clients send it as `model`")
        add.add_argument("--runnable", required=True, help="a name in CHAIN_RUNNABLES")
        add.add_argument("--model", default="", help="as init_chat_model names it")
        add.add_argument("--base-url", default="", help="an OpenAI-compatible server")
        add.add_argument("--system-prompt", default="")
        add.add_argument(
            "--cache-mode",
            default=CacheMode.OFF.value,
            choices=[mode.value for mode in CacheMode],
            help="which responses are cached",
        )
        add.add_argument("--json", action="store_true")
        for verb, text in (("list", "list the chains"), ("check", "build every enabled chain")):
            verbs.add_parser(verb, help=text).add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one verb."""
        if options["verb"] == "load":
            added = load_built_in_chains()
            self.stdout.write(f"added: {', '.join(added) or 'nothing, all exist'}")
        elif options["verb"] == "add":
            self._add(options)
        elif options["verb"] == "list":
            self._list(as_json=options["json"])
        else:
            self._check(as_json=options["json"])

    def _add(self, options: dict[str, Any]) -> None:
        names = ("slug", "runnable", "model", "base_url", "system_prompt", "cache_mode")
        try:
            chain = add_chain(**{name: options[name] for name in names})
        except BadChain as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"slug": chain.slug, "version": chain.version}))
        else:
            self.stdout.write(f"added: {chain.slug}")

    def _list(self, *, as_json: bool) -> None:
        rows = [
            {
                "slug": chain.slug,
                "runnable": chain.runnable,
                "model": config_of(chain).model_name,
                "version": chain.version,
                "is_enabled": chain.is_enabled,
            }
            for chain in Chain.objects.all()
        ]
        if as_json:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            state = "" if row["is_enabled"] else "  (disabled)"
            self.stdout.write(
                f"{row['slug']:24} {row['runnable']:16} {row['model']:32} v{row['version']}{state}"
            )

    def _check(self, *, as_json: bool) -> None:
        found = {
            chain.slug: find_problems(config_of(chain))
            for chain in Chain.objects.filter(is_enabled=True)
        }
        bad = {slug: problems for slug, problems in found.items() if problems}
        if as_json:
            self.stdout.write(json.dumps({"checked": len(found), "problems": bad}))
        for slug, problems in bad.items():
            for problem in problems:
                self.stderr.write(f"{slug}: {problem}")
        if bad:
            raise CommandError(f"{len(bad)} of {len(found)} chains cannot be built")
        if not as_json:
            self.stdout.write(f"{len(found)} chains can be built")
