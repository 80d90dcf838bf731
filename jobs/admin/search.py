"""Read the ids that staff paste into a search box or an address."""

from __future__ import annotations

import uuid


def read_id(prefix: str, text: str) -> uuid.UUID | None:
    """Return the UUID in `job_<hex>`, or in a bare one with or without dashes; None if none is."""
    text = text.strip().removeprefix(f"{prefix}_")
    if len(text) not in (32, 36):
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
