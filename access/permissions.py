"""The scopes of keys."""

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from access.errors import MissingScope
from access.principal import Principal


class HasScope(BasePermission):
    """Admits keys that have the view's `required_scope`; raises MissingScope (403) for others."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return False only for a caller without a key, whom authentication should have refused."""
        scope: str | None = getattr(view, "required_scope", None)
        if scope is None:
            raise ImproperlyConfigured(f"{type(view).__name__} names no required_scope")
        principal = request.user
        if not isinstance(principal, Principal):
            return False
        if scope not in principal.scopes:
            raise MissingScope(scope)
        return True
