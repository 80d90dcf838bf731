"""Limits of a key: requests a minute, tokens a day, requests at once."""

from access.limits.admission import Admission, admit

__all__ = ["Admission", "admit"]
