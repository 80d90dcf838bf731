"""Limits of a key: requests a minute, tokens a day, requests at once."""

from access.limits.admission import Admission, admit, count_tokens
from access.limits.hits import HitVerdict, count_hit

__all__ = ["Admission", "HitVerdict", "admit", "count_hit", "count_tokens"]
