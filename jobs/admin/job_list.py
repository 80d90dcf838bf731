"""The list of jobs: quick among millions of them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from jobs.admin import cells
from jobs.admin.filters import OF_NEWEST, ApiFilter, PeriodFilter, PriorityFilter, newest
from jobs.admin.pages import BoundedPaginator
from jobs.admin.search import read_id
from jobs.models import Job


class JobList(admin.ModelAdmin[Job]):
    """The list's columns, filters and search."""

    list_display = [
        "public_id", "status_badge", "chain", "account", "progress_bar", "age", "duration",
        "tries",
    ]  # fmt: skip
    list_filter = [PeriodFilter, "status", "chain", ApiFilter, PriorityFilter]
    list_select_related = ["chain", "account"]
    list_per_page = 50
    # Any other order would sort the full table.
    sortable_by = ()
    ordering = ["-pk"]
    paginator = BoundedPaginator
    show_full_result_count = False
    # Facets would count the full table for each choice.
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["=id"]
    search_help_text = f"A job's id, or a request's id ({OF_NEWEST} jobs)."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Defer large columns: inputs and outputs may have megabytes."""
        return (
            super()
            .get_queryset(request)
            .defer("input", "request", "output", "metadata", "error_message")
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find a job by its full id or its request's."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (pk := read_id("job", term)) is not None:
            return queryset.filter(pk=pk), False
        return newest(request, queryset).filter(request_id=term.replace("\0", "")), False

    @admin.display(description="job")
    def public_id(self, job: Job) -> SafeString:
        """Show the id that clients get."""
        return cells.short_id(str(job))

    @admin.display(description="status")
    def status_badge(self, job: Job) -> SafeString:
        """Show the status in its colour."""
        return cells.job_badge(job)

    @admin.display(description="progress")
    def progress_bar(self, job: Job) -> SafeString | str:
        """Show how far it is."""
        return cells.progress(job)

    @admin.display(description="age")
    def age(self, job: Job) -> SafeString | str:
        """Show how long ago it was submitted."""
        return cells.shown_time(job.created_at)

    @admin.display(description="duration")
    def duration(self, job: Job) -> SafeString | str:
        """Show how long it has run, waits between attempts included."""
        return cells.duration(job)

    @admin.display(description="attempts")
    def tries(self, job: Job) -> str:
        """Show the attempts that count, and how many there may be."""
        return f"{job.attempts}/{job.max_attempts}"
