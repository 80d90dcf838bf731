"""Django's middleware for pages with sessions and forms, which API requests skip.

An API request has a key and no cookie; sessions, CSRF tokens and messages would cost it a tenth of
a node's capacity for nothing.
"""

import logging
from collections.abc import Awaitable

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DataError, IntegrityError, ProgrammingError
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.cache import add_never_cache_headers
from django.utils.deprecation import MiddlewareMixin

from config.api.errors import ApiError, InvalidRequest, NotFound, error_response
from config.api.paths import NO_PAGE_PREFIXES

logger = logging.getLogger(__name__)

PRIVATE_PATHS = "/admin/"

# Errors that Django's pages do not expect: of an id or a value in an address, or of another client
# that changes or deletes the same row at that moment.
PAGE_ERRORS: list[tuple[type[Exception], ApiError]] = [
    (ObjectDoesNotExist, NotFound("There is no such row any more.", code="not_found")),
    (IntegrityError, ApiError(409, "Another user has changed this.", code="changed_meanwhile")),
    (ValidationError, InvalidRequest("The request could not be read.")),
    (DataError, InvalidRequest("The request could not be read.")),
]


class PagesOnly(MiddlewareMixin):
    """Pass requests below `NO_PAGE_PREFIXES` straight on."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Do the middleware's work for pages alone."""
        if request.path_info.startswith(NO_PAGE_PREFIXES):
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
    """One-time messages, for pages."""


class ClickJacking(PagesOnly, XFrameOptionsMiddleware):
    """No frames around pages."""


# Errors of Django's lists for a value of another type, or a lookup with too few or too many.
BAD_FILTERS = (ValueError, TypeError, OverflowError, ProgrammingError)


class ReadableQuery(PagesOnly):
    """No zero bytes in the query string, which PostgreSQL could not look for."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Redirect to the page without a query, as the admin does for other bad filters."""
        if not any("\0" in text for pair in request.GET.lists() for text in (pair[0], *pair[1])):
            return None
        if request.method not in ("GET", "HEAD"):
            return error_response(InvalidRequest("The request could not be read."))
        return HttpResponseRedirect(f"{request.path}?e=1")


class Errors(PagesOnly):
    """Answers to errors of a request that Django's pages do not expect."""

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Return the answer to an error of ours or of PAGE_ERRORS, or a list without its query."""
        if request.path_info.startswith(NO_PAGE_PREFIXES):
            return None
        if _is_filtered_list(request) and isinstance(exception, BAD_FILTERS):
            logger.warning("the parameters of a list are invalid", exc_info=exception)
            return HttpResponseRedirect(f"{request.path}?e=1")
        # As where no thread was free to hash the password of a new user.
        if isinstance(exception, ApiError):
            return error_response(exception)
        for kind, error in PAGE_ERRORS:
            if isinstance(exception, kind):
                return error_response(error)
        return None


def _is_filtered_list(request: HttpRequest) -> bool:
    """Return whether this is a list of the admin with filters, or with an action on its rows."""
    name = request.resolver_match.url_name if request.resolver_match else None
    has_input = bool(request.GET.keys() - {"e"}) or request.method == "POST"
    return (name or "").endswith("_changelist") and has_input


class ContentSecurity(PagesOnly):
    """A Content-Security-Policy for pages: nothing but our own files, and nothing inline."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Add the header."""
        response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        if request.path_info.startswith(PRIVATE_PATHS) and not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response
