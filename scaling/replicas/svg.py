"""The servers and their lag as positions that a template draws in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from scaling.replicas.report import GOOD, Report, ServerReport
from scaling.replicas.topology import HISTORY_POINTS, HISTORY_SECONDS, Server

WIDTH = 760
BOX_WIDTH, BOX_HEIGHT, ROW = 270, 76, 96
CHART_WIDTH, CHART_HEIGHT = 600, 120
CHART_SECONDS = HISTORY_POINTS * HISTORY_SECONDS
# A chart of milliseconds would look like trouble.
LEAST_TOP_SECONDS = 1.0
WAITING = ("returning", "detached")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A server; `kind` is good, waiting or bad."""

    kind: str
    x: int
    y: int
    server: ServerReport
    is_primary: bool

    @property
    def middle(self) -> float:
        """Where an arrow ends."""
        return self.y + BOX_HEIGHT / 2

    @property
    def reads_percent(self) -> float:
        """Its share of the reads."""
        return 100 * (self.server.reads_share or 0.0)


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """From the primary to a replica."""

    kind: str
    x1: int
    y1: float
    x2: int
    y2: float


@dataclass(frozen=True, kw_only=True)
class TopologySvg:
    """The boxes and the arrows between them; `title` is their text for screen readers."""

    width: int
    height: int
    box_width: int
    box_height: int
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    title: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A replica's lag; `points` is in the form of SVG's polyline."""

    number: int
    name: str
    points: str
    most_seconds: float


@dataclass(frozen=True, kw_only=True)
class LagChart:
    """Lines over ten minutes; `rows` has the greatest lag of each minute by line."""

    width: int
    height: int
    top_seconds: float
    lines: Sequence[Line]
    rows: Sequence[tuple[datetime, Sequence[float | None]]]


def draw(report: Report) -> TopologySvg:
    """Return the primary at the left, and the replicas in a column at the right."""
    primary, *replicas = report.servers
    height = max(1, len(replicas)) * ROW
    root = _box(primary, x=1, y=(height - BOX_HEIGHT) // 2)
    others = [
        _box(server, x=WIDTH - BOX_WIDTH - 1, y=row * ROW + (ROW - BOX_HEIGHT) // 2)
        for row, server in enumerate(replicas)
    ]
    arrows = [
        Arrow(kind=box.kind, x1=root.x + BOX_WIDTH, y1=root.middle, x2=box.x - 8, y2=box.middle)
        for box in others
    ]
    states = ", ".join(f"{server.name}: {server.state}" for server in report.servers)
    return TopologySvg(
        width=WIDTH,
        height=height,
        box_width=BOX_WIDTH,
        box_height=BOX_HEIGHT,
        boxes=[root, *others],
        arrows=arrows,
        title=f"The primary and its replicas. {states}. The table below has the numbers.",
    )


def draw_lag(replicas: Sequence[Server], *, now: float) -> LagChart:
    """Return the lag of the last ten minutes before `now`, in seconds since the epoch."""
    begin = now - CHART_SECONDS
    histories = [
        [(moment, lag) for moment, lag, _ in list(server.history) if moment >= begin]
        for server in replicas
    ]
    top = max([LEAST_TOP_SECONDS, *(lag for history in histories for _, lag in history)])
    lines = []
    for number, (server, history) in enumerate(zip(replicas, histories, strict=True), 1):
        points = " ".join(
            f"{(moment - begin) / CHART_SECONDS * CHART_WIDTH:.1f},"
            f"{CHART_HEIGHT - lag / top * CHART_HEIGHT:.1f}"
            for moment, lag in history
        )
        most = max((lag for _, lag in history), default=0.0)
        lines.append(Line(number=number, name=server.name, points=points, most_seconds=most))
    return LagChart(
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
        top_seconds=top,
        lines=lines,
        rows=_minutes(histories),
    )


def _box(server: ServerReport, *, x: int, y: int) -> Box:
    kind = "good" if server.state in GOOD else "waiting" if server.state in WAITING else "bad"
    return Box(kind=kind, x=x, y=y, server=server, is_primary=server.role == "primary")


def _minutes(
    histories: Sequence[Sequence[tuple[float, float]]],
) -> list[tuple[datetime, list[float | None]]]:
    by_line = [
        {
            minute: max(lag for _, lag in points)
            for minute, points in groupby(history, key=lambda point: int(point[0] // 60))
        }
        for history in histories
    ]
    minutes = sorted({minute for line in by_line for minute in line})
    return [
        (datetime.fromtimestamp(minute * 60, tz=UTC), [line.get(minute) for line in by_line])
        for minute in minutes
    ]
