"""The budget of reading a PDF, by the size of its file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from django.conf import settings

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one reading; `clock_seconds` is the time by the clock, on a busy machine."""

    cpu_seconds: int
    clock_seconds: float
    memory_bytes: int
    pages: int
    chars: int


def budget_of(file_bytes: int) -> Budget:
    """Return the limits for a PDF of this size.

    A small file cannot hold much honest text, so it may cost little: JOB_FILE_CPU_SECONDS and
    JOB_FILE_CPU_SECONDS_PER_MIB, JOB_FILE_TIMEOUT_SECONDS at most. Each page of a PDF takes
    JOB_FILE_PAGE_BYTES of it at least, JOB_MAX_FILE_PAGES at most.
    """
    earned = settings.JOB_FILE_CPU_SECONDS_PER_MIB * file_bytes / MIB
    # The kernel counts full seconds.
    cpu_seconds = math.ceil(
        min(settings.JOB_FILE_TIMEOUT_SECONDS, settings.JOB_FILE_CPU_SECONDS + earned)
    )
    return Budget(
        cpu_seconds=cpu_seconds,
        clock_seconds=cpu_seconds + settings.JOB_FILE_PATIENCE_SECONDS,
        memory_bytes=settings.JOB_FILE_MEMORY_BYTES,
        pages=min(settings.JOB_MAX_FILE_PAGES, max(1, file_bytes // settings.JOB_FILE_PAGE_BYTES)),
        chars=settings.JOB_MAX_TEXT_CHARS,
    )
