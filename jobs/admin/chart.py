"""Bars of an hour's jobs, as positions that a template draws in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.ended import Minute

HEIGHT = 120
BAR_WIDTH = 10
BAR_STEP = 12


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A part of a minute's bar, in the chart's units; `y` counts from the top."""

    kind: str
    x: int
    y: float
    height: float
    title: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The bars and what the axes say; `most` is the count at the top."""

    width: int
    height: int
    most: int
    bars: Sequence[Bar]


def draw(minutes: Sequence[Minute]) -> Chart:
    """Return bars that stack what failed and was cancelled upon what succeeded."""
    most = max((minute.total for minute in minutes), default=0)
    bars: list[Bar] = []
    for number, minute in enumerate(minutes):
        top = float(HEIGHT)
        for kind in ("succeeded", "failed", "cancelled"):
            count: int = getattr(minute, kind)
            if not count:
                continue
            # One failure among thousands must still be seen.
            height = max(1.5, count / most * HEIGHT)
            top = max(0.0, top - height)
            title = f"{minute.start:%H:%M}: {count} {kind}"
            bars.append(
                Bar(
                    kind=kind, x=number * BAR_STEP, y=round(top, 1), height=round(height, 1),
                    title=title,
                )
            )  # fmt: skip
    return Chart(width=len(minutes) * BAR_STEP, height=HEIGHT, most=most, bars=bars)
