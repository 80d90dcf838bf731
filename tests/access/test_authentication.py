from __future__ import annotations

import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from drf_spectacular.generators import SchemaGenerator
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import ApiKeyAuthentication
from access.models import ApiKey
from access.permissions import HasScope
from access.schema import ApiKeyScheme
from access.services import create_key, revoke_key

pytestmark = pytest.mark.django_db


class WhoView(APIView):
    authentication_classes = [ApiKeyAuthentication]
    permission_classes = [HasScope]
    required_scope: str | None = "chat"

    def get(self, request):
        assert request.auth is request.user
        return Response({"name": request.user.name})


def ask(header: str | None, view=WhoView):
    headers = {} if header is None else {"authorization": header}
    response = view.as_view()(RequestFactory().get("/", headers=headers)).render()
    return response, json.loads(response.content)


def code_of(header: str | None) -> str:
    response, body = ask(header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert body["error"]["type"] == "authentication_error"
    return body["error"]["code"]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_good_key_is_let_in(scheme):
    response, body = ask(scheme + create_key(name="ci").secret)
    assert response.status_code == 200
    assert body == {"name": "ci"}


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "hr_abc", "Token x", "\x00", "ÿ"])
def test_without_a_bearer_key_the_answer_says_how_to_send_one(header):
    assert code_of(header) == "missing_api_key"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        " ",
        "x",
        "hr_",
        "sk-123",
        "hr_" + "a" * 8000,
        "hr_\x00",
        "hr_" + "ÿ" * 49,
        "hr_\ud800",
        "' OR 1=1 --",
        "hr_a hr_b",
        "hr_" + "%00" * 20,
    ],
)
def test_a_hostile_header_is_an_invalid_key_and_never_an_error_of_ours(secret):
    assert code_of(f"Bearer {secret}") == "invalid_api_key"


def test_revoked_and_expired_keys_have_errors_of_their_own():
    revoked = create_key(name="a")
    revoke_key(key_id=revoked.key.id)
    assert code_of(f"Bearer {revoked.secret}") == "revoked_api_key"
    expired = create_key(name="b", expires_days=1)
    ApiKey.objects.filter(pk=expired.key.id).update(expires_at="2020-01-01T00:00Z")
    assert code_of(f"Bearer {expired.secret}") == "expired_api_key"


def test_the_secret_is_in_no_answer():
    revoked = create_key(name="a")
    revoke_key(key_id=revoked.key.id)
    response, _ = ask(f"Bearer {revoked.secret}")
    assert revoked.secret[3:] not in response.content.decode()


def test_a_key_without_the_view_s_scope_is_forbidden():
    created = create_key(name="a")
    ApiKey.objects.update(scopes=["other"])
    response, body = ask(f"Bearer {created.secret}")
    assert response.status_code == 403
    assert body["error"]["code"] == "missing_scope"
    assert body["error"]["type"] == "permission_error"


def test_a_view_that_names_no_scope_admits_no_request():
    class Forgetful(WhoView):
        required_scope = None

    secret = create_key(name="a").secret
    with pytest.raises(ImproperlyConfigured):
        HasScope().has_permission(Request(RequestFactory().get("/")), Forgetful())
    response, _ = ask(f"Bearer {secret}", Forgetful)
    assert response.status_code == 500


def test_the_schema_names_the_bearer_scheme():
    generator = SchemaGenerator(patterns=[])
    assert generator is not None
    definition = ApiKeyScheme(ApiKeyAuthentication).get_security_definition(None)
    assert (definition["type"], definition["scheme"]) == ("http", "bearer")
