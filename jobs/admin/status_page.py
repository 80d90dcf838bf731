"""The page "Task status"."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from jobs import task_status
from jobs.admin import cells, chart
from jobs.models import Job
from jobs.queue import history


def status_page(request: HttpRequest, model_admin: ModelAdmin[Job]) -> HttpResponse:
    """Return the page; nine queries, and one look at the broker."""
    now = timezone.now()
    queue = task_status.read_queue()
    throughput = history.read_throughput(now=now)
    context: dict[str, Any] = {
        **model_admin.admin_site.each_context(request),
        "title": "Task status",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "now": now,
        "queue": queue,
        "lines": [("Priority", queue.by_priority), ("Chain", queue.by_chain)],
        "running": task_status.count_running(),
        "workers": [
            {
                "living": living,
                "badge": cells.badge("late" if living.is_late else living.worker.state),
                "heartbeat": cells.shown_time(living.worker.heartbeat_at),
            }
            for living in task_status.read_workers(now=now)
        ],
        "throughput": throughput,
        "chart": chart.draw(throughput.minutes),
        "ended": sum(minute.total for minute in throughput.minutes),
        "failed": sum(minute.failed for minute in throughput.minutes),
        "dead_letters": history.list_dead_letters(now=now),
        "given_up": history.list_given_up(),
        "broker_depth": task_status.read_broker_depth(),
    }
    return TemplateResponse(request, "admin/jobs/job/task_status.html", context)
