"""The admin's page to change one's own password, where a wrong old one counts as a failed login.

A person with only a stolen session could otherwise guess there for as long as it lasts.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse_lazy

from access.errors import PasswordsBusy, TooManyLogins
from access.logins.attempts import counted
from access.logins.page import refusal_page
from node.client_address import client_network


class CountedPasswordChangeForm(AdminPasswordChangeForm):
    """Django's form, with the limits of logins."""

    def __init__(self, *args: Any, address: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._address = address

    def clean_old_password(self) -> str:
        """Return the old password; raises TooManyLogins, or PasswordsBusy."""
        password: str = self.cleaned_data["old_password"]
        with counted(user=self.user.get_username(), address=self._address) as outcome:
            outcome.is_right = self.user.check_password(password)
        if not outcome.is_right:
            code = "password_incorrect"
            raise ValidationError(self.error_messages[code], code=code)
        return password


class _PasswordChange(PasswordChangeView):
    form_class = CountedPasswordChangeForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "address": client_network(self.request)}


def password_change(request: HttpRequest) -> HttpResponseBase:
    """Return the page, or one with `Retry-After`."""
    page = _PasswordChange.as_view(extra_context=admin.site.each_context(request))
    try:
        return page(request)
    except (TooManyLogins, PasswordsBusy) as error:
        return refusal_page(request, error)
