"""Deliveries: notifications of finished jobs, to read and to send again."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from jobs.admin import cells
from jobs.admin.jobs import MAX_ACTED
from jobs.admin.operations import redeliver
from jobs.admin.pages import BoundedPaginator
from jobs.admin.search import read_id
from jobs.models import Delivery, DeliveryAttempt


class DeliveryAttemptInline(admin.TabularInline[DeliveryAttempt, Delivery]):
    """The attempts at a delivery, the oldest first."""

    model = DeliveryAttempt
    fields = ("started_at", "duration_seconds", "is_delivered", "status_code", "error")
    readonly_fields = fields
    ordering = ["started_at", "pk"]
    extra = 0
    can_delete = False
    verbose_name_plural = "attempts"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Users who may see the delivery may see its attempts."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Attempts are the dispatcher's to write."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Attempts are the dispatcher's to write."""
        return False


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin[Delivery]):
    """The newest jobs' deliveries first: a delivery's own id is not ordered by time."""

    list_display = [
        "public_id", "status_badge", "channel", "event_type", "job_link", "account", "target",
        "attempts", "age", "due_at",
    ]  # fmt: skip
    list_filter = ["status", "channel"]
    list_select_related = ["account"]
    list_per_page = 50
    sortable_by = ()
    ordering = ["-job_id", "-pk"]
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["=id"]
    search_help_text = "A delivery's id (evt_...), or its job's (job_...)."
    actions = ["redeliver_selected"]
    inlines = [DeliveryAttemptInline]
    fields = (
        "job_link", "account", "channel", "event_type", "target", "status", "attempts",
        "created_at", "due_at", "give_up_at", "delivered_at",
    )  # fmt: skip
    readonly_fields = fields

    class Media:
        css = {"all": ["jobs/admin.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find a delivery by its id, or those of a job by the job's."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (pk := read_id("evt", term)) is not None:
            return queryset.filter(pk=pk), False
        if (pk := read_id("job", term)) is not None:
            return queryset.filter(job_id=pk), False
        return queryset.none(), False

    @admin.display(description="delivery")
    def public_id(self, delivery: Delivery) -> SafeString:
        """Show the id that receivers get."""
        return cells.short_id(str(delivery))

    @admin.display(description="status")
    def status_badge(self, delivery: Delivery) -> SafeString:
        """Show the status in its colour."""
        return cells.badge(delivery.status)

    @admin.display(description="job")
    def job_link(self, delivery: Delivery) -> SafeString:
        """Link to the job without loading it."""
        url = reverse("admin:jobs_job_change", args=[delivery.job_id])
        return format_html('<a href="{}">{}</a>', url, cells.short_id(f"job_{delivery.job_id.hex}"))

    @admin.display(description="age")
    def age(self, delivery: Delivery) -> SafeString | str:
        """Show how long ago the job ended."""
        return cells.shown_time(delivery.created_at)

    @admin.action(description="Deliver selected deliveries again", permissions=["operate"])
    def redeliver_selected(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        """Make them due again now."""
        rows = list(queryset[: MAX_ACTED + 1])
        done = sum(self._redeliver(request, row).is_done for row in rows[:MAX_ACTED])
        messages.success(request, f"{done} deliveries are due again.")
        if len(rows) > MAX_ACTED:
            messages.warning(request, f"Only the newest {MAX_ACTED} deliveries were considered.")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may redeliver: by the permission to change deliveries."""
        return request.user.has_perm("jobs.change_delivery")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Deliveries come from jobs alone."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse every form: saving would overwrite the dispatcher's changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deliveries go with their job."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Put our own address before the catch-all of the admin's."""
        view = self.admin_site.admin_view(self.redeliver_view)
        return [
            path("<uuid:pk>/redeliver/", view, name="jobs_delivery_redeliver"),
            *super().get_urls(),
        ]

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kw: Any) -> Any:
        """Show a delivery's page with its button."""
        extra = {"may_redeliver": self.has_operate_permission(request)}
        return super().change_view(request, object_id, extra_context=extra)

    @method_decorator(require_POST)
    def redeliver_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """Make one delivery due again, and redirect to the page of the button."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        delivery = Delivery.objects.filter(pk=pk).first()
        if delivery is None:
            raise Http404
        result = self._redeliver(request, delivery)
        level = messages.SUCCESS if result.is_done else messages.WARNING
        messages.add_message(request, level, result.text)
        back = request.POST.get("next", "")
        if not url_has_allowed_host_and_scheme(back, None):
            back = reverse("admin:jobs_delivery_change", args=[pk])
        return HttpResponseRedirect(back)

    def _redeliver(self, request: HttpRequest, delivery: Delivery) -> Any:
        result = redeliver(delivery)
        if result.is_done:
            self.log_change(request, delivery, f"Redeliver: {result.text}")
        return result
