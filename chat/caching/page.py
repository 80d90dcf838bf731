"""The page "Response cache", and its buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from chat.caching.statistics import ChainStatistics, Minute, read_hour, read_statistics, total
from chat.models import Chain
from config import stacked_bars
from scaling.redis_client import RedisUnavailable
from scaling.response_cache import generations
from scaling.response_cache.store import ALL, StoreUnavailable

VIEW = "scaling.view_response_cache"
CLEAR = "scaling.clear_response_cache"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A chain's line; `chain` is None for figures of a deleted chain, or of no chain."""

    name: str
    chain: Chain | None
    figures: ChainStatistics

    @property
    def hit_percent(self) -> float | None:
        """Return the hit rate as a percentage."""
        return _percent(self.figures)


@dataclass(frozen=True, kw_only=True)
class ClearResult:
    """The result of a button: a sentence, and whether anything was cleared."""

    is_done: bool
    text: str


def cache_page(request: HttpRequest, model_admin: ModelAdmin[Chain]) -> HttpResponse:
    """Return the page; one query of its own, and COUNTING_SECONDS at most for the store."""
    found = read_statistics()
    everything = total(found.chains)
    problems = list(found.problems)
    minutes: list[Minute] = []
    try:
        minutes = read_hour()
    except RedisUnavailable as error:
        problems.append(f"The last hour cannot be read: {error}.")
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "title": "Response cache",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "now": timezone.now(),
        "statistics": found,
        "problems": problems,
        "total": everything,
        "total_percent": _percent(everything),
        "rows": _rows(found.chains),
        "minutes": [(_moment(minute), minute) for minute in minutes],
        "chart": stacked_bars.draw(
            [
                (f"{_moment(minute):%H:%M}", {"hits": minute.hits, "misses": minute.misses})
                for minute in minutes
            ]
        ),
        "hour_hits": sum(minute.hits for minute in minutes),
        "hour_misses": sum(minute.misses for minute in minutes),
        "may_clear": may_clear(request),
        "may_view_chain": model_admin.has_view_permission(request),
    }
    return TemplateResponse(request, "admin/chat/chain/response_cache.html", context)


def may_clear(request: HttpRequest) -> bool:
    """Return whether the user may clear answers."""
    return request.user.has_perm(CLEAR)


def clear_chain(chain: Chain) -> ClearResult:
    """Make the answers of a chain unreachable."""
    return _clear(
        generations.chain_counter(chain.slug), f"the cached responses of chain {chain.slug}"
    )


def clear_everything() -> ClearResult:
    """Clear all answers."""
    return _clear(ALL, "all answers")


def log_clearing_of_everything(request: HttpRequest, text: str) -> None:
    """Write a line into the admin's log that is of no single chain."""
    user_id = request.user.pk
    assert user_id is not None  # noqa: S101  (the admin's pages want a login)
    LogEntry.objects.create(
        user_id=user_id,
        content_type=ContentType.objects.get_for_model(Chain),
        object_repr="Response cache",
        action_flag=CHANGE,
        change_message=text,
    )


def _clear(counter: str, what: str) -> ClearResult:
    try:
        generations.clear(counter)
    except StoreUnavailable as error:
        return ClearResult(
            is_done=False,
            text=f"The store is unavailable, so {what} may still be served: {error}. Try it again"
            " later; clearing twice does no harm.",
        )
    return ClearResult(is_done=True, text=f"Cleared {what}; all nodes apply it within a second.")


def _rows(figures: Sequence[ChainStatistics]) -> list[Row]:
    """Return the rows of chains with figures, and then of the other chains."""
    chains = {chain.slug: chain for chain in Chain.objects.only("slug", "cache_mode")}
    rows = [
        Row(name=each.chain or "(no chain)", chain=chains.pop(each.chain, None), figures=each)
        for each in figures
    ]
    rows += [
        Row(name=slug, chain=chain, figures=ChainStatistics(chain=slug))
        for slug, chain in chains.items()
    ]
    return rows


def _percent(figures: ChainStatistics) -> float | None:
    return None if figures.hit_rate is None else 100 * figures.hit_rate


def _moment(minute: Minute) -> datetime:
    return timezone.localtime(datetime.fromtimestamp(minute.start, tz=UTC))
