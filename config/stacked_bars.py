"""Stacked bars over time, as positions that a template draws in SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HEIGHT = 120
BAR_STEP = 12


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A part of a column, in the chart's units; `y` counts from the top."""

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


def draw(columns: Sequence[tuple[str, Mapping[str, int]]]) -> Chart:
    """Return bars for columns of a label and counts by kind, the first kind at the bottom."""
    most = max((sum(counts.values()) for _, counts in columns), default=0)
    bars: list[Bar] = []
    for number, (label, counts) in enumerate(columns):
        top = float(HEIGHT)
        for kind, count in counts.items():
            if not count:
                continue
            # One failure among thousands must still be seen.
            height = max(1.5, count / most * HEIGHT)
            top = max(0.0, top - height)
            bars.append(
                Bar(
                    kind=kind,
                    x=number * BAR_STEP,
                    y=round(top, 1),
                    height=round(height, 1),
                    title=f"{label}: {count} {kind}",
                )
            )
    return Chart(width=len(columns) * BAR_STEP, height=HEIGHT, most=most, bars=bars)
