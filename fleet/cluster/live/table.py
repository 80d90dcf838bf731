"""Draw the figures on a terminal, repeatedly at the same position."""

import time
from collections import deque
from collections.abc import Callable, Iterable

from fleet.cluster.errors import ClusterError
from fleet.cluster.live.figures import Figures, compare
from fleet.cluster.live.sample import Sample, measure
from fleet.cluster.paths import Layout

REDRAW_SECONDS = 1.0
# Rates and latencies are those of so many samples: of one second they would be mostly noise.
SAMPLES = 6
# ANSI: to the upper left corner; clear to the end of the line; clear what is below.
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

NODES = ("node", "state", "req/s", "open", "queue", "p50", "p95", "p99", "cpu", "memory", "version")
WORKERS = ("worker", "state", "jobs", "cpu", "memory")
SERVERS = ("server", "state", "role", "lag", "cpu", "memory")


def once(layout: Layout) -> Figures:
    """Return the figures of one second; raise `ClusterError` when no stack runs."""
    before = _measure(layout)
    time.sleep(REDRAW_SECONDS)
    return compare(before, _measure(layout))


def watch(layout: Layout, *, write: Callable[[str], None]) -> None:
    """Draw the table each second until Ctrl-C, or until the stack is gone."""
    samples = deque([_measure(layout)], maxlen=SAMPLES)
    write(HOME + CLEAR_BELOW)
    try:
        while True:
            time.sleep(REDRAW_SECONDS)
            samples.append(_measure(layout))
            lines = draw(compare(samples[0], samples[-1]))
            write(HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW)
    except KeyboardInterrupt:
        write("\n")


def draw(figures: Figures) -> list[str]:
    """Return the lines of the table."""
    waiting, rate = figures.waiting_jobs, figures.cache_hit_rate
    return [
        f"{figures.url}   jobs waiting: {'-' if waiting is None else waiting}   "
        f"cache hits: {'-' if rate is None else f'{100 * rate:.0f}%'}",
        "",
        *_columns(
            NODES,
            (
                (
                    node.name,
                    node.state,
                    f"{node.requests_per_second:.1f}",
                    str(node.in_flight),
                    str(node.queued),
                    *(
                        "-" if ms is None else f"{ms:.0f} ms"
                        for ms in (node.p50_ms, node.p95_ms, node.p99_ms)
                    ),
                    f"{node.cpu_percent:.0f}%",
                    f"{node.memory_mb} MB",
                    node.version,
                )
                for node in figures.nodes
            ),
        ),
        "",
        *_columns(
            WORKERS,
            (
                (
                    worker.name,
                    worker.state,
                    str(worker.running_jobs),
                    f"{worker.cpu_percent:.0f}%",
                    f"{worker.memory_mb} MB",
                )
                for worker in figures.workers
            ),
        ),
        "",
        *_columns(
            SERVERS,
            (
                (
                    server.name,
                    server.state,
                    server.role,
                    "-" if server.lag_seconds is None else f"{server.lag_seconds:.3f} s",
                    f"{server.cpu_percent:.0f}%",
                    f"{server.memory_mb} MB",
                )
                for server in figures.servers
            ),
        ),
    ]


def _columns(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return rows below each other: words at the left of their column, figures at the right."""
    table = [heads, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width)
            if head in ("state", "role", "version", heads[0])
            else cell.rjust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _measure(layout: Layout) -> Sample:
    sample = measure(layout)
    if sample.url is None:
        raise ClusterError(f"No stack is running (STATE_DIR={layout.state_dir}).")
    return sample
