"""Django's middleware for pages with sessions and forms, which API requests pass by.

An API request has a key and no cookie; sessions, CSRF tokens and messages would cost it a tenth of
a node's capacity for nothing.
"""

from collections.abc import Awaitable

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin

API_PATHS = ("/v1/", "/chains/", "/health/", "/metrics")


class PagesOnly(MiddlewareMixin):
    """Pass requests below `API_PATHS` straight on."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Do the middleware's work for a page alone."""
        if request.path_info.startswith(API_PATHS):
            return self.get_response(request)
        return super().__call__(request)


class Sessions(PagesOnly, SessionMiddleware):
    """Sessions for pages."""


class Common(PagesOnly, CommonMiddleware):
    """Trailing slashes for pages; an API address is right or it is not."""


class Csrf(PagesOnly, CsrfViewMiddleware):
    """CSRF tokens for pages; a key in a header is not sent by a stranger's form."""


class Authentication(PagesOnly, AuthenticationMiddleware):
    """Staff's logins, for pages."""


class Messages(PagesOnly, MessageMiddleware):
    """One-time notes, for pages."""


class ClickJacking(PagesOnly, XFrameOptionsMiddleware):
    """No frames around pages."""
