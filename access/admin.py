"""Admin pages of accounts and API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers

from access import services
from access.models import SCOPES, Account, ApiKey, all_scopes
from config.bounded_delete import BoundedDelete

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    ApiKeyAdminBase = admin.ModelAdmin[ApiKey]
    ApiKeyFormBase = forms.ModelForm[ApiKey]
else:
    ApiKeyAdminBase = admin.ModelAdmin
    ApiKeyFormBase = forms.ModelForm


@admin.register(Account)
class AccountAdmin(BoundedDelete):
    list_display = ["name", "max_running_jobs", "job_priority", "created_at"]
    search_fields = ["name"]
    fields = ["name", "max_running_jobs", "job_priority", "notify_emails", "created_at"]
    readonly_fields = ["created_at"]
    show_full_result_count = False


class ApiKeyForm(ApiKeyFormBase):
    """Offer the scopes that exist as boxes to tick."""

    scopes = forms.MultipleChoiceField(
        choices=list(SCOPES.items()), initial=all_scopes, widget=forms.CheckboxSelectMultiple
    )


class StateFilter(admin.SimpleListFilter):
    """Active, expired or revoked, as ApiKey.state has it."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in ("active", "expired", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = timezone.now()
        conditions = {
            "active": Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now)),
            "expired": Q(revoked_at=None, expires_at__lte=now),
            "revoked": Q(revoked_at__isnull=False),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


@admin.register(ApiKey)
class ApiKeyAdmin(ApiKeyAdminBase):
    """Create a key, change its limits, revoke it. Keys are never deleted: their past stays."""

    form = ApiKeyForm
    list_display = [
        "hint",
        "name",
        "account",
        "state",
        "requests_per_minute",
        "tokens_per_day",
        "max_concurrent",
        "expires_at",
        "last_used_at",
    ]
    list_filter = [StateFilter]
    list_select_related = ["account"]
    search_fields = ["name", "hint", "account__name"]
    # An autocomplete field would answer a made-up account with a 500 (Django 5.2).
    raw_id_fields = ["account"]
    show_full_result_count = False
    actions = ["revoke"]
    fields = [
        "account",
        "name",
        "scopes",
        "requests_per_minute",
        "tokens_per_day",
        "max_concurrent",
        "expires_at",
    ]
    unchanging = ["account", "scopes"]
    shown = ["public_id", "hint", "state", "created_at", "revoked_at", "last_used_at"]

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        return self.fields if obj is None else [*self.shown, *self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        return [] if obj is None else [*self.shown, *self.unchanging]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Set a new key's secret; the log holds name and hint."""
        if change:
            super().save_model(request, obj, form, change)
            services.forget_key(obj)
            return
        # Only this response has it: a redirect would take it through a cookie or a session.
        obj.secret = services.set_secret(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the new key on a page that is never cached."""
        context = {
            **self.admin_site.each_context(request),
            "title": "API key added",
            "opts": self.opts,
            "key": obj,
            "secret": obj.secret,  # type: ignore[attr-defined]
        }
        response = TemplateResponse(request, "admin/access/apikey/added.html", context)
        add_never_cache_headers(response)
        return response

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        selected, revoked = queryset.count(), 0
        for key in queryset.filter(revoked_at=None):
            services.revoke_key(key_id=key.pk)
            self.log_change(request, key, "Revoked.")
            revoked += 1
        messages.success(request, f"Revoked {revoked} keys; {selected - revoked} already were.")
