"""`manage.py apikey`: create, list and revoke API keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from access import services
from access.errors import AccessError
from access.models import SCOPES, ApiKey
from config.api.errors import NotFound
from config.api.ids import from_public_id

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

COLUMNS = "{:<36}  {:<9}  {:<8}  {:>9}  {:>9}  {:>7}  {:<16}  {}"


class Command(BaseCommand):
    """Manage API keys. Integers are read here and not by argparse, for one kind of error."""

    help = "Create, list and revoke API keys."
    # The chains' own modules may be missing on an operator's machine.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="Create a key and print it this once.")
        create.add_argument("--name", required=True, help="The purpose of the key.")
        create.add_argument("--account", help="Its account, created if new (default: default).")
        for limit in ("requests-per-minute", "tokens-per-day", "max-concurrent"):
            create.add_argument(f"--{limit}", metavar="N", help="0 is no limit.")
        create.add_argument("--expires-days", metavar="N", help="0, the default, is never.")
        create.add_argument("--scopes", help=f"Comma-separated, of: {', '.join(SCOPES)} (all).")
        create.add_argument("--json", action="store_true")
        show = verbs.add_parser("list", help="List the keys, the newest first.")
        show.add_argument("--account", help="Only this account's.")
        show.add_argument("--json", action="store_true")
        revoke = verbs.add_parser("revoke", help="Revoke a key, at once and permanently.")
        revoke.add_argument("id", help="As `apikey list` shows it: key_...")
        revoke.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        verbs = {"create": self._create, "list": self._list, "revoke": self._revoke}
        try:
            verbs[options["verb"]](options)
        except (AccessError, NotFound) as error:
            raise CommandError(str(error)) from error

    def _create(self, options: dict[str, Any]) -> None:
        scopes = options["scopes"]
        created = services.create_key(
            name=options["name"],
            account_name=options["account"],
            requests_per_minute=_whole_number(options, "requests_per_minute"),
            tokens_per_day=_whole_number(options, "tokens_per_day"),
            max_concurrent=_whole_number(options, "max_concurrent"),
            expires_days=_whole_number(options, "expires_days"),
            scopes=None if scopes is None else [s.strip() for s in scopes.split(",") if s.strip()],
        )
        if options["json"]:
            self._print_json({**_as_dict(created.key), "key": created.secret})
            return
        self.stdout.write(f"Added {created.key.public_id} for account {created.key.account.name}.")
        self.stdout.write("The key is shown only now:")
        self.stdout.write(self.style.SUCCESS(created.secret))

    def _list(self, options: dict[str, Any]) -> None:
        keys = ApiKey.objects.select_related("account")
        if options["account"] is not None:
            # No account has such a name, and PostgreSQL refuses to look for some of them.
            is_possible = options["account"].isprintable()
            keys = keys.filter(account__name=options["account"]) if is_possible else keys.none()
        if options["json"]:
            self._print_json([_as_dict(key) for key in keys])
            return
        titles = (
            "ID",
            "KEY",
            "STATE",
            "REQ/MIN",
            "TOK/DAY",
            "AT ONCE",
            "LAST USED",
            "ACCOUNT/NAME",
        )
        self.stdout.write(COLUMNS.format(*titles))
        for key in keys:
            self.stdout.write(
                COLUMNS.format(
                    key.public_id,
                    key.hint,
                    key.state,
                    key.requests_per_minute or "-",
                    key.tokens_per_day or "-",
                    key.max_concurrent or "-",
                    f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
                    f"{key.account.name}/{key.name}",
                )
            )

    def _revoke(self, options: dict[str, Any]) -> None:
        key = services.revoke_key(key_id=from_public_id("key", options["id"]))
        if options["json"]:
            self._print_json(_as_dict(key))
            return
        self.stdout.write(f"Revoked {key.public_id} ({key.name}).")

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2))


def _whole_number(options: dict[str, Any], name: str) -> int | None:
    value = options[name]
    if value is None or isinstance(value, int):
        return value
    try:
        return int(value)
    except ValueError as error:
        raise CommandError(f"--{name.replace('_', '-')}: {value!r} is not an integer.") from error


def _as_dict(key: ApiKey) -> dict[str, Any]:
    times = {
        name: value.isoformat() if (value := getattr(key, name)) else None
        for name in ("created_at", "expires_at", "revoked_at", "last_used_at")
    }
    return {
        "id": key.public_id,
        "name": key.name,
        "account": key.account.name,
        "hint": key.hint,
        "state": key.state,
        "scopes": key.scopes,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_day": key.tokens_per_day,
        "max_concurrent": key.max_concurrent,
        **times,
    }
