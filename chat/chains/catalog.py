"""The enabled chains, built and cached."""

import logging
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from chat.chains.config import config_of
from chat.chains.registry import BuiltChain, build_chain
from chat.errors import BadChain, ChainNotFound, ChainUnavailable
from chat.models import Chain
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.loading_cache import LoadingCache
from scaling.replicas.routing import repeated_elsewhere

logger = logging.getLogger(__name__)

MAX_CACHED_SLUGS = 1024

Revision = tuple[int | None, int]


def get_chain(slug: str) -> BuiltChain:
    """Return the enabled chain of this slug; raises ChainNotFound, ChainUnavailable.

    A change in the admin takes effect within CHAIN_CACHE_SECONDS on every node. A caller that
    waits for another's load releases its database connection first: the load needs one of the pool.
    """
    built = BUILT_CHAINS.get(slug)
    if built is None:
        raise ChainNotFound(slug)
    if isinstance(built, BadChain):
        raise ChainUnavailable(slug) from built
    return built


def find_chain(slug: str) -> Chain | None:
    """Return the enabled chain's row; `slug` may be any text."""
    # PostgreSQL raises an error for a NUL, instead of finding nothing.
    if "\0" in slug:
        return None
    return repeated_elsewhere(Chain.objects.filter(slug=slug, is_enabled=True).first)


@dataclass(frozen=True, slots=True)
class ChainListing:
    """The enabled chains as they were at a Unix time, by slug."""

    chains: dict[str, Chain]
    read_at: float


def enabled_chains(*, bypass_cache: bool = False) -> ChainListing:
    """Return the enabled chains, as this process has them cached.

    They are no older than CHAIN_CACHE_SECONDS; with `bypass_cache` they are read now.
    """
    if bypass_cache:
        LISTING.drop(None)
    listing = LISTING.get(None)
    assert listing is not None  # noqa: S101  (an empty list is one too)
    return listing


def list_chains() -> list[Chain]:
    """Return the enabled chains, by slug."""
    return repeated_elsewhere(lambda: list(Chain.objects.filter(is_enabled=True)))


def warm_up() -> None:
    """Build the enabled chains before the first request needs one; never raises.

    Providers' packages take more than a second to import. A database that is not available yet
    is no reason for a node not to start.
    """
    try:
        for row in list_chains():
            BUILT_CHAINS.get(row.slug)
    except (DatabaseError, PoolTimeout) as error:
        logger.warning("chains are not built ahead: %s", error)
    finally:
        release_connections()


# Building a chain makes HTTP clients, so an unchanged one is reused when its row is read again.
_built: dict[str, tuple[Revision, BuiltChain | BadChain]] = {}


def _load(slug: str) -> BuiltChain | BadChain | None:
    try:
        row = find_chain(slug)
    finally:
        release_connections()
    if row is None:
        _built.pop(slug, None)
        return None
    config = config_of(row)
    revision, built = _built.get(slug, (None, None))
    if built is not None and revision == config.revision:
        return built
    try:
        built = build_chain(config)
    except BadChain as error:
        # Cached until the row changes, or each second would bring this line again.
        logger.error("chain %s, version %d: %s", slug, row.version, error)
        built = error
    _built[slug] = (config.revision, built)
    return built


def _list(_: None) -> ChainListing:
    read_at = CLOCK.now()
    chains = {chain.slug: chain for chain in list_chains()}
    release_connections()
    return ChainListing(chains, read_at)


LISTING: LoadingCache[None, ChainListing] = LoadingCache(
    load=_list,
    ttl_seconds=settings.CHAIN_CACHE_SECONDS,
    max_entries=1,
    name="models",
    before_wait=release_connections,
)
BUILT_CHAINS: LoadingCache[str, BuiltChain | BadChain] = LoadingCache(
    load=_load,
    ttl_seconds=settings.CHAIN_CACHE_SECONDS,
    max_entries=MAX_CACHED_SLUGS,
    name="chains",
    before_wait=release_connections,
)
