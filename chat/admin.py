"""Staff's view of chains and conversations."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from chat.caching import page
from chat.caching.page import ClearResult
from chat.chains.config import config_of
from chat.conversations.admin import ConversationAdmin
from chat.models import Chain
from config.api.errors import ApiError
from config.api.json import loads
from config.bounded_delete import BoundedDelete

__all__ = ["ChainAdmin", "ConversationAdmin"]


class StrictJsonField(forms.JSONField):
    """JSON as the API takes it: not too deep, and nothing that PostgreSQL could not store."""

    def to_python(self, value: Any) -> Any:
        """Refuse a value that the API would refuse, with its reason."""
        if isinstance(value, str) and value.strip():
            try:
                loads(value.encode())
            except (ApiError, UnicodeEncodeError) as error:
                raise forms.ValidationError(str(error)) from error
        return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Show a value that was refused as it was typed."""
        try:
            self.to_python(data)
        except forms.ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


class ChainForm(forms.ModelForm[Chain]):
    """A chain's form, which refuses a chain that cannot be built, with the reason."""

    class Meta:
        model = Chain
        fields = [
            "slug",
            "runnable",
            "is_enabled",
            "model",
            "base_url",
            "fallback_models",
            "system_prompt",
            "temperature",
            "max_tokens",
            "parameters",
            "timeout_seconds",
            "max_running_jobs",
            "cache_mode",
            "cache_scope",
            "cache_ttl_seconds",
            "cache_stale_seconds",
            "cache_stale_if_error_seconds",
            "cache_model_calls",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Staff who may only view a chain get a form without fields.
        if not self.fields:
            return
        names = sorted(settings.CHAIN_RUNNABLES)
        self.fields["runnable"] = forms.ChoiceField(choices=[(name, name) for name in names])
        for name in ("parameters", "fallback_models"):
            help_text = self.fields[name].help_text
            self.fields[name] = StrictJsonField(required=False, help_text=help_text)
        self.fields["model"].widget.attrs["placeholder"] = settings.LLM_MODEL
        self.fields["base_url"].widget.attrs["placeholder"] = settings.LLM_BASE_URL

    def clean_parameters(self) -> dict[str, Any]:
        """Take an empty field as no parameters; refuse a value that is no object."""
        value = self.cleaned_data["parameters"]
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            raise forms.ValidationError('Write a JSON object, such as {"top_p": 0.9}.')
        return value

    def clean_fallback_models(self) -> list[str]:
        """Take an empty field as no fallbacks; refuse a value that is no list of names."""
        value = self.cleaned_data["fallback_models"]
        if value in (None, ""):
            return []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise forms.ValidationError('Write a JSON list, such as ["openai:gpt-5-nano"].')
        return value

    def _post_clean(self) -> None:
        """Build the chain once its fields are right; nothing is called."""
        super()._post_clean()  # type: ignore[misc]  # django-stubs leaves this hook out
        if self.errors:
            return
        # LangChain takes a second to import, and every command imports the admin.
        from chat.chains.registry import find_problems  # noqa: PLC0415

        for problem in find_problems(config_of(self.instance)):
            self.add_error(None, problem)


@admin.register(Chain)
class ChainAdmin(BoundedDelete):
    """Chains, each change a new version."""

    form = ChainForm
    list_display = ["slug", "runnable", "model_or_default", "version", "is_enabled", "updated_at"]
    list_filter = ["is_enabled", "runnable"]
    search_fields = ["slug", "model"]
    readonly_fields = ["version", "created_at", "updated_at"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "slug",
                    "runnable",
                    "is_enabled",
                    "model",
                    "base_url",
                    "fallback_models",
                    "system_prompt",
                    "temperature",
                    "max_tokens",
                    "parameters",
                    "timeout_seconds",
                    "max_running_jobs",
                ]
            },
        ),
        (
            "Response cache",
            {
                "fields": [
                    "cache_mode",
                    "cache_scope",
                    "cache_ttl_seconds",
                    "cache_stale_seconds",
                    "cache_stale_if_error_seconds",
                    "cache_model_calls",
                ],
                "description": "A cached answer costs no model call. Turn caching off for chains"
                " that fetch changing data, have side effects, or need the time. Times are in"
                " seconds.",
            },
        ),
        ("History", {"fields": ["version", "created_at", "updated_at"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        """Return our own URLs before the catch-all of the admin's."""
        wrap = self.admin_site.admin_view
        return [
            path(
                "response-cache/",
                wrap(self.response_cache_view),
                name="chat_chain_response_cache",
            ),
            path(
                "response-cache/clear/",
                wrap(self.clear_everything_view),
                name="chat_chain_clear_cache",
            ),
            path(
                "response-cache/clear/<int:pk>/",
                wrap(self.clear_chain_view),
                name="chat_chain_clear_cache_of",
            ),
            *super().get_urls(),
        ]

    def response_cache_view(self, request: HttpRequest) -> HttpResponse:
        """Show the entries and the hit rates of the response cache."""
        if not (request.user.has_perm(page.VIEW) or page.may_clear(request)):
            raise PermissionDenied
        return page.cache_page(request, self)

    @method_decorator(require_POST)
    def clear_everything_view(self, request: HttpRequest) -> HttpResponse:
        """Clear the cache, log it, and show the result."""
        self._require_clear(request)
        cleared = page.clear_everything()
        if cleared.is_done:
            page.log_clearing_of_everything(request, cleared.text)
        return self._show_result(request, cleared)

    @method_decorator(require_POST)
    def clear_chain_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Clear one chain's answers, log it with the chain, and show the result."""
        self._require_clear(request)
        chain = get_object_or_404(Chain, pk=pk)
        cleared = page.clear_chain(chain)
        if cleared.is_done:
            self.log_change(request, chain, cleared.text)
        return self._show_result(request, cleared)

    def _require_clear(self, request: HttpRequest) -> None:
        if not page.may_clear(request):
            raise PermissionDenied

    def _show_result(self, request: HttpRequest, cleared: ClearResult) -> HttpResponse:
        level = messages.SUCCESS if cleared.is_done else messages.ERROR
        messages.add_message(request, level, cleared.text)
        return HttpResponseRedirect(reverse("admin:chat_chain_response_cache"))

    @admin.display(description="model", ordering="model")
    def model_or_default(self, chain: Chain) -> str:
        """Show the model that is really called."""
        return config_of(chain).model_name
