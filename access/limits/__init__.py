"""Limits of a key: requests a minute, tokens a day, requests at once."""

from access.limits.admission import Admission, admit, count_tokens

__all__ = ["Admission", "admit", "count_tokens"]
