"""Jobs: to find, to read, and to retry, cancel or requeue. They are never edited by hand."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from jobs.admin import job_page
from jobs.admin.job_list import JobList
from jobs.admin.operations import OPERATIONS
from jobs.admin.search import read_id
from jobs.admin.status_page import status_page
from jobs.models import Job

# Each takes a few statements, and the page waits for all of them.
MAX_ACTED = 500
VIEW_TASK_STATUS = "scaling.view_task_status"


@admin.register(Job)
class JobAdmin(JobList):
    """The operations on jobs, and the addresses of the pages."""

    actions = ["retry_jobs", "cancel_jobs", "requeue_jobs"]

    class Media:
        css = {"all": ["jobs/admin.css"]}

    @admin.action(description="Retry selected jobs", permissions=["operate"])
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Queue the failed and cancelled ones again."""
        self._operate_on_all(request, queryset, "retry")

    @admin.action(description="Cancel selected jobs", permissions=["operate"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Cancel those that are not over."""
        self._operate_on_all(request, queryset, "cancel")

    @admin.action(description="Requeue selected jobs", permissions=["operate"])
    def requeue_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Requeue the running ones."""
        self._operate_on_all(request, queryset, "requeue")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry, cancel, requeue: by the permission to change jobs."""
        return request.user.has_perm("jobs.change_job")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Jobs come from the API alone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse every form: saving a job would overwrite its worker's changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Jobs go when JOB_RETENTION_DAYS are over."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Put our own addresses before the catch-all of the admin's."""
        wrap = self.admin_site.admin_view
        return [
            path("task-status/", wrap(self.task_status_view), name="jobs_job_task_status"),
            path("<uuid:pk>/do/<slug:name>/", wrap(self.operate_view), name="jobs_job_operate"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a job's page."""
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        if not self.has_view_permission(request):
            raise PermissionDenied
        pk = read_id("job", object_id)
        page = None if pk is None else job_page.read(pk)
        if page is None:
            redirect: HttpResponse = self._get_obj_does_not_exist_redirect(  # type: ignore[attr-defined]
                request, self.opts, object_id
            )
            return redirect
        context = {
            **self.admin_site.each_context(request),
            "title": str(page.job),
            "opts": self.opts,
            "media": self.media,
            "page": page,
            "operations": [
                operation
                for operation in OPERATIONS.values()
                if page.job.status in operation.statuses and self.has_operate_permission(request)
            ],
            "may_redeliver": request.user.has_perm("jobs.change_delivery"),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/jobs/job/page.html", context)

    @method_decorator(require_POST)
    def operate_view(self, request: HttpRequest, pk: uuid.UUID, name: str) -> HttpResponse:
        """Do one operation on one job, log a change, and show the result."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        operation = OPERATIONS.get(name)
        job = self.get_queryset(request).select_related("chain").filter(pk=pk).first()
        if operation is None or job is None:
            raise Http404
        result = operation.run(job)
        if result.is_done:
            self.log_change(request, job, f"{operation.label}: {result.text}")
        level = messages.SUCCESS if result.is_done else messages.WARNING
        messages.add_message(request, level, result.text)
        return HttpResponseRedirect(reverse("admin:jobs_job_change", args=[pk]))

    def task_status_view(self, request: HttpRequest) -> HttpResponse:
        """Show the page "Task status"."""
        if not request.user.has_perm(VIEW_TASK_STATUS):
            raise PermissionDenied
        return status_page(request, self)

    def _operate_on_all(self, request: HttpRequest, queryset: QuerySet[Job], name: str) -> None:
        operation = OPERATIONS[name]
        jobs = list(queryset.select_related("chain")[: MAX_ACTED + 1])
        reasons: Counter[str] = Counter()
        done = 0
        for job in jobs[:MAX_ACTED]:
            result = operation.run(job)
            if result.is_done:
                self.log_change(request, job, f"{operation.label}: {result.text}")
                done += 1
            else:
                reasons[result.text] += 1
        level = messages.SUCCESS if done else messages.WARNING
        left = sum(reasons.values())
        messages.add_message(request, level, f"{done} jobs {operation.past}; {left} unchanged.")
        for reason, count in reasons.items():
            messages.warning(request, f"{count} jobs: {reason}")
        if len(jobs) > MAX_ACTED:
            messages.warning(request, f"Only the newest {MAX_ACTED} jobs were considered.")
