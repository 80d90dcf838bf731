"""Draw a simulation as a PNG: load, nodes and latency over the same time.

With Pillow, the extra `simulate`: three panels of lines need no plotting library, and none lighter
writes PNG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fleet.autoscale.simulation.replay import Outcome

WIDTH, PANEL_HEIGHT = 1200, 230
LEFT, RIGHT, TOP, GAP, BOTTOM = 90, 20, 40, 46, 40
PLOT_WIDTH = WIDTH - LEFT - RIGHT
INK, QUIET, GRID = "#1c2733", "#5f6b7a", "#e3e7ec"
BLUE, GREEN, RED, AMBER = "#2563a8", "#23753a", "#b3261e", "#b06a00"
# Distances between labels of time, in seconds.
TIME_STEPS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800)


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values over time by name; `is_filled` down to the axis."""

    name: str
    values: Sequence[float]
    colour: str
    is_filled: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines with an axis of their own."""

    title: str
    lines: Sequence[Line]


def draw(outcome: Outcome, path: Path, *, title: str) -> None:
    """Write the picture; `path` may be one that exists."""
    moments = outcome.moments
    panels = [
        Panel(
            title="requests a second",
            lines=[
                Line(
                    name="arriving", values=[m.rate for m in moments], colour=BLUE, is_filled=True
                ),
                Line(name="refused", values=[m.served.refused for m in moments], colour=RED),
            ],
        ),
        Panel(
            title="nodes",
            lines=[
                Line(name="wanted", values=[m.size for m in moments], colour=AMBER),
                Line(name="ready", values=[m.ready for m in moments], colour=GREEN),
            ],
        ),
        Panel(
            title="latency in seconds",
            lines=[
                Line(name="p95", values=[m.served.p95_seconds for m in moments], colour=RED),
                Line(name="mean", values=[m.served.mean_seconds for m in moments], colour=BLUE),
            ],
        ),
    ]
    height = TOP + len(panels) * (PANEL_HEIGHT + GAP) - GAP + BOTTOM
    image = Image.new("RGB", (WIDTH, height), "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((LEFT, 8), title, fill=INK, font=ImageFont.load_default(17))
    seconds = len(moments) * outcome.step_seconds
    for number, panel in enumerate(panels):
        top = TOP + number * (PANEL_HEIGHT + GAP)
        _draw_panel(canvas, panel, top, seconds, has_times=number == len(panels) - 1)
    image.save(path, format="PNG", optimize=True)


def _draw_panel(
    canvas: ImageDraw.ImageDraw, panel: Panel, top: int, seconds: float, *, has_times: bool
) -> None:
    font = ImageFont.load_default(13)
    upper, bottom = top + 22, top + PANEL_HEIGHT
    step, most = _scale(max((max(line.values) for line in panel.lines), default=0.0))
    canvas.text((LEFT, top), panel.title, fill=INK, font=font)
    at = WIDTH - RIGHT
    for line in reversed(panel.lines):
        at -= int(canvas.textlength(line.name, font=font)) + 14
        canvas.text((at, top), line.name, fill=line.colour, font=font)
    for number in range(round(most / step) + 1):
        y = bottom - (bottom - upper) * number * step / most
        canvas.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=GRID)
        canvas.text((LEFT - 8, y), f"{number * step:g}", fill=QUIET, font=font, anchor="rm")
    for moment in _times(seconds):
        x = LEFT + PLOT_WIDTH * moment / seconds
        canvas.line([(x, upper), (x, bottom)], fill=GRID)
        if has_times:
            canvas.text((x, bottom + 6), _time(moment), fill=QUIET, font=font, anchor="ma")
    for line in panel.lines:
        points = [
            (LEFT + x, bottom - (bottom - upper) * value / most)
            for x, value in enumerate(_columns(line.values))
        ]
        if line.is_filled:
            outline = [(LEFT, bottom), *points, (points[-1][0], bottom)]
            canvas.polygon(outline, fill="#dbe7f5")
        canvas.line(points, fill=line.colour, width=2)
    canvas.line([(LEFT, bottom), (WIDTH - RIGHT, bottom)], fill=QUIET)


def _columns(values: Sequence[float]) -> list[float]:
    """Return a value a pixel: of many the largest, because a short peak must be seen."""
    count = len(values)
    found = []
    for x in range(PLOT_WIDTH):
        first = x * count // PLOT_WIDTH
        last = max(first + 1, (x + 1) * count // PLOT_WIDTH)
        found.append(max(values[first:last]))
    return found


def _scale(most: float) -> tuple[float, float]:
    """Return a round distance between lines of a grid, and the value at its top."""
    if most <= 0:
        return 1.0, 1.0
    magnitude = 10.0 ** math.floor(math.log10(most / 4))
    step = next(magnitude * n for n in (1, 2, 5, 10) if magnitude * n >= most / 4)
    return step, step * max(1, math.ceil(most / step - 1e-9))


def _times(seconds: float) -> list[float]:
    step = next((s for s in TIME_STEPS if seconds / s <= 10), TIME_STEPS[-1])
    return [number * step for number in range(int(seconds // step) + 1)]


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}" + (f":{rest:02}" if rest else "")
