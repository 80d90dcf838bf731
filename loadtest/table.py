"""The rows of `make bench`'s table, and their output as Markdown."""

import platform
import sys
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; `bound` is the limit of the figure, "" without one."""

    measure: str
    figure: str
    bound: str = ""
    passed: bool = True


def print_table(rows: list[Row]) -> None:
    """Print the rows as a Markdown table."""
    cores = psutil.cpu_count()
    print(f"\nPython {platform.python_version()}, {cores} cores, load generator on the same ones\n")
    print("| measure | figure | bound | met |\n| --- | --- | --- | --- |")
    for row in rows:
        met = "" if not row.bound else ("yes" if row.passed else "NO")
        print(f"| {row.measure} | {row.figure} | {row.bound} | {met} |")


def print_progress(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)
