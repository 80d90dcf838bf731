"""What staff and operators do with chains."""

from typing import Any

from chat.models import Chain

BUILT_IN: dict[str, dict[str, Any]] = {
    "assistant": {
        "system_prompt": "You are a helpful assistant. Answer briefly and truthfully.",
        "timeout_seconds": 120,
    },
    "summarize": {"timeout_seconds": 900},
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
