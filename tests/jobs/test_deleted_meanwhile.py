"""A row that is deleted while another client changes it is no 500."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client, RequestFactory
from django.urls import resolve, reverse

from access.models import Account
from chat.conversations import services
from chat.models import Chain, Conversation
from config.api.errors import DeletedMeanwhile, NotFound, to_api_error
from jobs.models import WebhookSecret
from jobs.notifications import secrets
from node.page_middleware import Errors

pytestmark = pytest.mark.django_db


@pytest.fixture
def conversation() -> Conversation:
    account = Account.objects.create(name="acme")
    chain = Chain.objects.create(slug="chain", runnable="assistant")
    return Conversation.objects.create(account=account, chain=chain)


def test_metadata_of_a_deleted_conversation_is_not_found(conversation: Conversation) -> None:
    account_id, public_id = conversation.account_id, str(conversation)
    found = services.get_conversation(account_id=account_id, public_id=public_id)
    services.delete_conversation(account_id=account_id, public_id=public_id)
    with pytest.raises(NotFound):
        services.replace_metadata(found, {"a": "b"})
    assert not Conversation.objects.exists()


def test_metadata_of_a_conversation_is_replaced(conversation: Conversation) -> None:
    before = conversation.updated_at
    services.replace_metadata(conversation, {"a": "b"})
    conversation.refresh_from_db()
    assert conversation.metadata == {"a": "b"}
    assert conversation.updated_at > before


@pytest.mark.parametrize("missing", ["account", "chain"])
def test_a_missing_parent_row_is_reported_as_deleted(
    conversation: Conversation, missing: str
) -> None:
    ids = {"account_id": conversation.account_id, "chain_id": conversation.chain_id}
    ids[f"{missing}_id"] = uuid.uuid4() if missing == "account" else 10**9
    with transaction.atomic():
        Conversation.objects.create(**ids)
        # Without a transaction around it, as in a request, PostgreSQL looks at once.
        with pytest.raises(IntegrityError) as caught:
            transaction.get_connection().check_constraints()
        transaction.set_rollback(True)
    assert isinstance(to_api_error(caught.value), DeletedMeanwhile)


def test_no_webhook_secret_is_made_for_a_deleted_account() -> None:
    for make in (secrets.current, secrets.rotate):
        with pytest.raises(DeletedMeanwhile):
            make(uuid.uuid4())
    assert not WebhookSecret.objects.exists()


def test_saving_a_chain_that_was_deleted_is_not_found(conversation: Conversation) -> None:
    chain = Chain.objects.create(slug="other", runnable="assistant")
    Chain.objects.filter(pk=chain.pk).delete()
    with pytest.raises(Chain.DoesNotExist) as caught:
        chain.save()
    request = RequestFactory().post(url := reverse("admin:chat_chain_change", args=[chain.pk]))
    request.resolver_match = resolve(url)
    response = Errors(lambda _: None).process_exception(request, caught.value)  # type: ignore[arg-type]
    assert response is not None
    assert response.status_code == 404


def test_a_fault_of_our_own_stays_a_500(admin_client: Client, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("our own")

    monkeypatch.setattr("access.admin.AccountAdmin.get_queryset", fail)
    admin_client.raise_request_exception = False
    url = reverse("admin:access_account_changelist")
    assert admin_client.get(url).status_code == 500
    assert admin_client.get(f"{url}?q=x").headers["Location"] == f"{url}?e=1"
    assert admin_client.get(f"{url}?e=1").status_code == 500
