"""Limits of a key: requests a minute, tokens a day, requests at once; budgets of a node."""

from access.limits.admission import Admission, admit, count_tokens
from access.limits.budgets import STREAMS, Budget, Slot
from access.limits.deferred import HitVerdict, count_hit
from access.limits.tokens import Reservation, reserve_tokens

__all__ = [
    "STREAMS",
    "Admission",
    "Budget",
    "HitVerdict",
    "Reservation",
    "Slot",
    "admit",
    "count_hit",
    "count_tokens",
    "reserve_tokens",
]
