"""System checks of chains and settings: `manage.py check` reports what would fail later."""

from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from chat.chains.config import config_of
from chat.errors import BadChain
from chat.models import Chain


@register()
def check_runnables(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Import every runnable that CHAIN_RUNNABLES names."""
    # LangChain takes a second to import, and every command imports this module.
    from chat.chains.registry import import_runnable  # noqa: PLC0415

    problems: list[CheckMessage] = []
    for name in settings.CHAIN_RUNNABLES:
        try:
            import_runnable(name)
        except BadChain as error:
            problems.append(Error(str(error), hint="See CHAIN_RUNNABLES.", id="chat.E001"))
    return problems


@register(Tags.database)
def check_chains(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Build every enabled chain (`manage.py check --database default`)."""
    if not databases:
        return []
    # As above.
    from chat.chains.registry import find_problems  # noqa: PLC0415

    try:
        chains = list(Chain.objects.filter(is_enabled=True))
    except DatabaseError as error:
        return [Warning(f"chains not checked: {error}", id="chat.W001")]
    return [
        Error(f"chain {chain.slug}: {problem}", id="chat.E002")
        for chain in chains
        for problem in find_problems(config_of(chain))
    ]
