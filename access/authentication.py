"""Read `Authorization: Bearer hr_...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication

# drf-spectacular finds an extension only once its class exists.
from access import schema  # noqa: F401
from access.errors import Unauthenticated
from access.metrics import KEYS_REFUSED
from access.services import find_principal
from node.callers import CALLERS

if TYPE_CHECKING:
    from rest_framework.request import Request

    from access.principal import Principal


class ApiKeyAuthentication(BaseAuthentication):
    """Make the key's Principal `request.user` and `request.auth`; raises Unauthenticated (401).

    A view that is open to all sets `authentication_classes = []`.
    """

    def authenticate(self, request: Request) -> tuple[Principal, Principal]:
        """Return the principal, twice."""
        try:
            return self._authenticate(request)
        except Unauthenticated as error:
            KEYS_REFUSED.labels(error.code).inc()
            raise

    def _authenticate(self, request: Request) -> tuple[Principal, Principal]:
        credentials = request.META.get("HTTP_AUTHORIZATION", "")
        scheme, _, secret = credentials.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(
                "Send your API key as 'Authorization: Bearer hr_...'.", code="missing_api_key"
            )
        principal = find_principal(secret.strip(" "))
        CALLERS.remember(credentials, principal.account_id)
        return principal, principal

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of REST framework's own 401s."""
        return "Bearer"
