"""One TLS context for all of a process's HTTP clients that verify by the system's authorities.

httpx reads all authorities again for each client, which takes up to 50 ms. A chat model has two
clients, each of its fallbacks two more, and they are created at a chain's first call.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from importlib import import_module
from typing import Any

# httpx2 is the one that OpenAI's SDK has; others may have none of the two.
LIBRARIES = ("httpx", "httpx2")

Create = Callable[..., ssl.SSLContext]


def install() -> None:
    """Share one TLS context among a library's clients; a second call does nothing."""
    for library in LIBRARIES:
        try:
            module: Any = import_module(f"{library}._transports.default")
        except ModuleNotFoundError:
            continue
        if not hasattr(module.create_ssl_context, "is_shared"):
            module.create_ssl_context = _shared(module.create_ssl_context)


def _shared(create: Create) -> Create:
    @functools.cache
    def of(trust_env: bool) -> ssl.SSLContext:
        return create(trust_env=trust_env)

    def create_or_share(verify: Any = True, cert: Any = None, trust_env: bool = True) -> Any:
        if verify is not True or cert is not None:
            return create(verify=verify, cert=cert, trust_env=trust_env)
        return of(trust_env)

    create_or_share.is_shared = True  # type: ignore[attr-defined]
    return create_or_share
