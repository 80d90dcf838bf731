"""Workers, to read: they register and end themselves."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobs.admin import cells
from jobs.models import Job, Worker


@admin.register(Worker)
class WorkerAdmin(admin.ModelAdmin[Worker]):
    """The workers of the last day."""

    list_display = [
        "name", "host", "pid", "version", "state_badge", "slots", "heartbeat", "started_at",
        "ended_at", "current_jobs",
    ]  # fmt: skip
    list_filter = ["state"]
    ordering = ["-started_at", "-pk"]
    show_full_result_count = False
    search_fields = ["name", "host"]

    class Media:
        css = {"all": ["jobs/admin.css"]}

    @admin.display(description="state", ordering="state")
    def state_badge(self, worker: Worker) -> SafeString:
        """Show the state in its colour."""
        return cells.badge(worker.state)

    @admin.display(description="running", ordering="running")
    def slots(self, worker: Worker) -> str:
        """Show how many of its slots are in use."""
        return f"{worker.running} of {worker.concurrency}"

    @admin.display(description="heartbeat", ordering="heartbeat_at")
    def heartbeat(self, worker: Worker) -> SafeString | str:
        """Show the age of its last heartbeat."""
        return cells.shown_time(worker.heartbeat_at)

    @admin.display(description="jobs")
    def current_jobs(self, worker: Worker) -> SafeString:
        """Link to the jobs that it runs now."""
        query = urlencode({"worker__id__exact": worker.pk, "status__exact": Job.Status.RUNNING})
        return format_html(
            '<a href="{}?{}">running jobs</a>', reverse("admin:jobs_job_changelist"), query
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Workers register themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A worker's row is its own."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The reaper removes them a day after their end."""
        return False
