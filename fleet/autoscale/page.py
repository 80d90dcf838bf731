"""Staff's page "Autoscaler": what was decided, and the target against the load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from config import stacked_bars
from config.stacked_bars import BAR_STEP, HEIGHT, Chart
from fleet.autoscale import history
from fleet.autoscale.history import Entry
from fleet.autoscale.policies import MEASURES, WEB, WORKERS
from scaling.redis_client import RedisUnavailable

PERMISSION = "scaling.view_autoscaler"
MAX_COLUMNS = 90
MAX_ROWS = 100
# The measure of a node or worker that is its share of the fleet's load, and the load's name.
LOADS = {WEB: ("requests_per_minute", "requests a minute"), WORKERS: ("waiting_jobs", "jobs wait")}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A decision with its moment."""

    moment: datetime
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class Section:
    """The page's view of a fleet. `line` is the target's, in the chart's units."""

    fleet: str
    load_name: str
    chart: Chart
    line: str
    most_size: int
    since: datetime
    until: datetime
    rows: Sequence[Row]


def autoscaler_page(request: HttpRequest) -> HttpResponse:
    """Return the page; two reads of Redis."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    problem, sections = "", []
    try:
        for fleet in MEASURES:
            if entries := history.read(fleet):
                sections.append(_section(fleet, entries))
    except RedisUnavailable as error:
        problem = f"The decisions cannot be read: {error}."
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Autoscaler",
        "problem": problem,
        "sections": sections,
        "most_rows": MAX_ROWS,
    }
    return TemplateResponse(request, "admin/scaling/autoscaler.html", context)


def _section(fleet: str, entries: Sequence[Entry]) -> Section:
    """Return a fleet's part of the page; its entries come with the newest first."""
    measure, name = LOADS[fleet]
    columns = _columns(entries[::-1])
    loads = [max(_load(entry, measure) for entry in column) for column in columns]
    targets = [column[-1].target or 0 for column in columns]
    labels = [f"{_moment(column[-1]):%H:%M}" for column in columns]
    most = max(1, *targets)
    return Section(
        fleet=fleet,
        load_name=name,
        chart=stacked_bars.draw(
            [(label, {"load": load}) for label, load in zip(labels, loads, strict=True)]
        ),
        line=_line(targets, most),
        most_size=most,
        since=_moment(entries[-1]),
        until=_moment(entries[0]),
        rows=[Row(moment=_moment(entry), entry=entry) for entry in entries[:MAX_ROWS]],
    )


def _columns(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Return equal parts of the time, without those in which nothing was decided."""
    start, end = entries[0].at, entries[-1].at
    width = max(1e-9, (end - start) / MAX_COLUMNS)
    parts: dict[int, list[Entry]] = {}
    for entry in entries:
        number = min(MAX_COLUMNS - 1, max(0, int((entry.at - start) / width)))
        parts.setdefault(number, []).append(entry)
    return [parts[number] for number in sorted(parts)]


def _load(entry: Entry, measure: str) -> int:
    return round(entry.values.get(measure, 0.0) * max(1, entry.size or 0))


def _line(targets: Sequence[int], most: int) -> str:
    """Return the target's steps as points of an SVG polyline, its own scale at full height."""
    points = []
    for number, target in enumerate(targets):
        y = round(HEIGHT * (1 - target / most), 1)
        points += [f"{number * BAR_STEP},{y}", f"{(number + 1) * BAR_STEP},{y}"]
    return " ".join(points)


def _moment(entry: Entry) -> datetime:
    return timezone.localtime(datetime.fromtimestamp(entry.at, tz=UTC))
