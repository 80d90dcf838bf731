"""Lengths of time, for the admin's templates: Django's own filter shows seconds as "0 minutes"."""

from __future__ import annotations

from datetime import datetime

from django import template

from jobs.admin import cells

register = template.Library()


@register.filter
def age(moment: datetime | None) -> str:
    """Return how long ago a moment was."""
    return cells.age(moment)


@register.filter
def lasted_until(start: datetime, end: datetime) -> str:
    """Return the time between two moments."""
    return cells.span(end - start)
