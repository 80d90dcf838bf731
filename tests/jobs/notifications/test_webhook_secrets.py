"""The secrets that sign webhooks."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.test import Client
from standardwebhooks import Webhook, WebhookVerificationError

from access.services import create_key
from jobs.models import WebhookSecret
from jobs.notifications import secrets
from jobs.notifications.webhooks import make_message
from scaling.connections import release_connections
from tests.jobs.notifications.rows import make_account, make_delivery, make_job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_receivers")]


# --- Secrets ------------------------------------------------------------------------------------
def test_each_account_has_one_lasting_secret() -> None:
    first, second = make_account(), make_account()
    (secret,) = secrets.current_secrets(first.pk)
    assert secret.startswith("whsec_")
    assert secrets.current_secrets(first.pk) == [secret]
    assert secrets.current_secrets(second.pk) != [secret]
    row = WebhookSecret.objects.get(account=first)
    assert secret[6:20] not in json.dumps([row.salt, str(row.pk)])


@pytest.mark.django_db(transaction=True)
def test_an_accounts_first_secret_is_made_once() -> None:
    account = make_account()
    barrier = threading.Barrier(6)

    def ask(_: int) -> str:
        try:
            barrier.wait(10)
            return secrets.secret_of(secrets.current(account.pk))
        finally:
            release_connections()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1
    assert WebhookSecret.objects.filter(account=account).count() == 1


def test_a_replaced_secret_signs_until_its_time_is_over() -> None:
    account = make_account()
    (old,) = secrets.current_secrets(account.pk)
    new = secrets.secret_of(secrets.rotate(account.pk))
    assert secrets.current_secrets(account.pk) == [new, old]
    message = make_message(
        make_delivery("http://127.0.0.1/", make_job(account)),
        secrets=secrets.current_secrets(account.pk),
    )
    for secret in (new, old):
        Webhook(secret).verify(message.body, message.headers)
    newest = secrets.secret_of(secrets.rotate(account.pk, overlap_hours=0))
    assert secrets.current_secrets(account.pk) == [newest]
    with pytest.raises(WebhookVerificationError):
        Webhook(newest).verify(message.body, message.headers)


def test_rotating_again_and_again_leaves_few_secrets() -> None:
    account = make_account()
    made = [secrets.secret_of(secrets.rotate(account.pk)) for _ in range(10)]
    assert secrets.current_secrets(account.pk) == made[: -secrets.MAX_LIVE - 1 : -1]
    assert WebhookSecret.objects.filter(account=account).count() == secrets.MAX_LIVE


def test_secrets_of_a_former_secret_key_sign_while_it_is_a_fallback(settings) -> None:
    account = make_account()
    (old,) = secrets.current_secrets(account.pk)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    new, also = secrets.current_secrets(account.pk)
    assert also == old
    settings.SECRET_KEY_FALLBACKS = []
    assert secrets.current_secrets(account.pk) == [new]


def test_the_api_shows_the_secret_and_rotates_it(client: Client) -> None:
    made = create_key(name="jobs", account_name="webhook secrets")
    headers = {"Authorization": f"Bearer {made.secret}"}
    shown = client.get("/v1/webhook_secret", headers=headers)
    assert shown.status_code == 200
    assert shown.json()["object"] == "webhook_secret"
    assert shown["Cache-Control"] == "no-store"
    assert secrets.current_secrets(made.key.account_id) == [shown.json()["secret"]]
    assert client.get("/v1/webhook_secret", headers=headers).json() == shown.json()
    rotated = client.post("/v1/webhook_secret/rotate", headers=headers)
    assert rotated.status_code == 200
    assert client.get("/v1/webhook_secret", headers=headers).json() == rotated.json()
    assert rotated.json()["secret"] != shown.json()["secret"]
    chat_only = create_key(name="chat", account_name="webhook secrets", scopes=["chat"])
    headers = {"Authorization": f"Bearer {chat_only.secret}"}
    assert client.get("/v1/webhook_secret", headers=headers).status_code == 403
    assert client.post("/v1/webhook_secret/rotate", headers=headers).status_code == 403
