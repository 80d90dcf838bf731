"""The API of an account's webhook secret."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel
from rest_framework.request import Request
from rest_framework.response import Response

from config.api.schema import error_responses
from jobs.models import WebhookSecret
from jobs.notifications import secrets
from jobs.views import JobsApiView


class WebhookSecretBody(BaseModel):
    """The secret that signs an account's webhooks. `created_at` is Unix seconds."""

    object: Literal["webhook_secret"]
    secret: str
    created_at: int


class WebhookSecretView(JobsApiView):
    """`/v1/webhook_secret`."""

    @extend_schema(
        operation_id="get_webhook_secret",
        tags=["webhooks"],
        responses={200: WebhookSecretBody, **error_responses(401, 403, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        """Return the secret that the account's webhooks are signed with."""
        return _answer(secrets.current(self.principal.account_id))


class WebhookSecretRotateView(JobsApiView):
    """`/v1/webhook_secret/rotate`."""

    @extend_schema(
        operation_id="rotate_webhook_secret",
        tags=["webhooks"],
        request=None,
        responses={200: WebhookSecretBody, **error_responses(401, 403, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        """Make a new secret; the one before it signs as well for a while."""
        return _answer(secrets.rotate(self.principal.account_id))


def _answer(row: WebhookSecret) -> Response:
    body: dict[str, Any] = {
        "object": "webhook_secret",
        "secret": secrets.secret_of(row),
        "created_at": int(row.created_at.timestamp()),
    }
    return Response(body, headers={"Cache-Control": "no-store"})
