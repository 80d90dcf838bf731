"""The admin's login, and the page of a refused one with the time to wait."""

from __future__ import annotations

import math

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.cache import add_never_cache_headers

from access.errors import PasswordsBusy, TooManyLogins

MINUTE_SECONDS = 60


def login(request: HttpRequest) -> HttpResponse:
    """Return the admin's login, or a page with `Retry-After`."""
    try:
        response: HttpResponse = admin.site.login(request)
    except (TooManyLogins, PasswordsBusy) as error:
        return refusal_page(request, error)
    return response


def refusal_page(request: HttpRequest, error: TooManyLogins | PasswordsBusy) -> HttpResponse:
    """Return the page of an error."""
    context = {
        **admin.site.each_context(request),
        "title": error.message,
        "is_limit": isinstance(error, TooManyLogins),
        "minutes": math.ceil((error.retry_after_seconds or 0) / MINUTE_SECONDS),
    }
    response = TemplateResponse(
        request, "admin/login_refused.html", context, status=error.status, headers=error.headers
    )
    add_never_cache_headers(response)
    return response
