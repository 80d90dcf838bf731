"""Limits of a key: requests a minute, tokens a day, requests at once; budgets of a node."""

from access.limits.admission import Admission, admit, count_tokens
from access.limits.budgets import STREAMS, Budget, Slot
from access.limits.hits import HitVerdict, count_hit

__all__ = [
    "STREAMS",
    "Admission",
    "Budget",
    "HitVerdict",
    "Slot",
    "admit",
    "count_hit",
    "count_tokens",
]
