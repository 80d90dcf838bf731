"""Services of chains for staff and operators."""

from typing import Any

from django.core.exceptions import ValidationError

from chat.chains.config import config_of
from chat.chains.registry import find_problems
from chat.errors import BadChain
from chat.models import Chain

BUILT_IN: dict[str, dict[str, Any]] = {
    "assistant": {
        "system_prompt": "You are a helpful assistant. Answer briefly and truthfully.",
        "timeout_seconds": 120,
    },
    "summarize": {"timeout_seconds": 600},
}


def load_built_in_chains() -> list[str]:
    """Add the built-in chains that are not there; returns the slugs added.

    A chain that staff changed or disabled stays as it is.
    """
    added = []
    for slug, defaults in BUILT_IN.items():
        _, is_new = Chain.objects.get_or_create(slug=slug, defaults={"runnable": slug, **defaults})
        if is_new:
            added.append(slug)
    return added


def add_chain(*, slug: str, runnable: str, **configuration: Any) -> Chain:
    """Add a chain; raises BadChain with the reason when it cannot be called."""
    chain = Chain(slug=slug, runnable=runnable, **configuration)
    try:
        chain.full_clean()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise BadChain(f"{field}: {messages[0]}") from error
    if problems := find_problems(config_of(chain)):
        raise BadChain(problems[0])
    chain.save()
    return chain
