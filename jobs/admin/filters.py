"""Filters whose choices cost no query, on columns with indexes."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from jobs.models import MAX_PRIORITY, Job

PERIODS = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last 24 hours", timedelta(days=1)),
    "week": ("Last 7 days", timedelta(days=7)),
}
APIS = ("jobs", "responses")
# No index has a job's API, priority or request id. Among so many jobs they are found quickly.
NEWEST = 50_000
OF_NEWEST = f"of the newest {NEWEST:,}"


class PeriodFilter(admin.SimpleListFilter):
    """The newest jobs, by their ids, which are ordered by time."""

    title = "submitted"
    parameter_name = "submitted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the periods."""
        return [(name, label) for name, (label, _) in PERIODS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the period."""
        if self.value() not in PERIODS:
            return queryset
        _, length = PERIODS[self.value() or ""]
        return queryset.filter(pk__gte=first_id_since(timezone.now() - length))


class ApiFilter(admin.SimpleListFilter):
    """The API that made the job."""

    title = f"API, {OF_NEWEST}"
    parameter_name = "api"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the APIs that make jobs."""
        return [(name, name) for name in APIS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the API."""
        if self.value() not in APIS:
            return queryset
        return newest(request, queryset).filter(api=self.value())


class PriorityFilter(admin.SimpleListFilter):
    """The job's priority."""

    title = f"priority, {OF_NEWEST}"
    parameter_name = "priority"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the priorities, the first to run first."""
        return [(str(number), str(number)) for number in range(MAX_PRIORITY, -1, -1)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the priority."""
        value = self.value() or ""
        if value not in dict(self.lookup_choices):
            return queryset
        return newest(request, queryset).filter(priority=int(value))


def newest(request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
    """Return the newest NEWEST jobs; all of those that wait or run, which are not many."""
    if request.GET.get("status__exact") in (Job.Status.QUEUED, Job.Status.RUNNING):
        return queryset
    ids = Job.objects.order_by("-pk").values_list("pk", flat=True)
    oldest = ids[NEWEST - 1 : NEWEST].first()
    return queryset if oldest is None else queryset.filter(pk__gte=oldest)


def first_id_since(moment: datetime) -> uuid.UUID:
    """Return the lowest UUIDv7 of the moment's millisecond (RFC 9562, 5.7)."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)
