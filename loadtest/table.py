"""The lines of `make bench`'s table, and how they are shown."""

import platform
import sys
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; `bound` is what the figure must keep to, "" when it is only told."""

    measure: str
    figure: str
    bound: str = ""
    is_kept: bool = True


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table."""
    cores = psutil.cpu_count()
    print(f"\nPython {platform.python_version()}, {cores} cores, load generator on the same ones\n")
    print("| measure | figure | bound | kept |\n| --- | --- | --- | --- |")
    for row in rows:
        kept = "" if not row.bound else ("yes" if row.is_kept else "NO")
        print(f"| {row.measure} | {row.figure} | {row.bound} | {kept} |")


def print_progress(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)
