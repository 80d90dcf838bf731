from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.contrib.sessions.models import Session
from django.urls import reverse
from django.utils import timezone

from access.models import Account, ApiKey
from access.services import create_key, find_principal

pytestmark = pytest.mark.django_db

KEYS = "admin:access_apikey"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="acme")


def form(account: Account, /, **changes) -> dict[str, object]:
    fields = {
        "account": account.pk,
        "name": "ci",
        "scopes": ["chat"],
        "requests_per_minute": 60,
        "tokens_per_day": 0,
        "max_concurrent": 2,
        "expires_at_0": "",
        "expires_at_1": "",
    }
    return {**fields, **changes}


def test_adding_a_key_shows_its_secret_once(admin_client, account):
    response = admin_client.post(reverse(f"{KEYS}_add"), form(account), follow=True)
    text = response.content.decode()
    (secret,) = re.findall(r"<code>(hr_[0-9A-Za-z]{49})</code>", text)
    assert find_principal(secret).limits.requests_per_minute == 60
    assert secret not in admin_client.get(reverse(f"{KEYS}_changelist")).content.decode()


def test_only_the_page_itself_has_the_secret(admin_client, account):
    response = admin_client.post(reverse(f"{KEYS}_add"), form(account))
    assert "no-store" in response["Cache-Control"]
    (secret,) = re.findall(r"hr_[0-9A-Za-z]{49}", response.content.decode())
    assert not any(secret[8:] in cookie.value for cookie in response.cookies.values())
    assert not list(get_messages(response.wsgi_request))
    entry = LogEntry.objects.get()
    stored = [str(entry), entry.object_repr, entry.change_message]
    stored += [str(session.get_decoded()) for session in Session.objects.all()]
    stored += [str(value) for value in ApiKey.objects.values().get().values()]
    assert not any(secret[8:] in text for text in stored)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "a\tb"},
        {"name": "x" * 101},
        {"requests_per_minute": -1},
        {"requests_per_minute": 10**12},
        {"tokens_per_day": 10**30},
        {"max_concurrent": "many"},
        {"scopes": ["nope"]},
        {"scopes": []},
        {"account": "nobody"},
        {"expires_at_0": "soon"},
    ],
)
def test_bad_input_is_refused_in_the_form(admin_client, account, changes):
    response = admin_client.post(reverse(f"{KEYS}_add"), form(account, **changes))
    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert not ApiKey.objects.exists()


def test_limits_name_and_expiry_can_be_changed_and_nothing_else(admin_client, account):
    created = create_key(name="old", account_name="acme", requests_per_minute=5)
    find_principal(created.secret)
    other = Account.objects.create(name="other")
    url = reverse(f"{KEYS}_change", args=[created.key.pk])
    page = admin_client.get(url).content.decode()
    assert created.key.hint in page
    assert created.key.digest not in page
    changes = form(other, name="new", requests_per_minute=7, digest="x", hint="y", scopes=[])
    response = admin_client.post(url, changes)
    assert response.status_code == 302
    key = ApiKey.objects.get()
    assert (key.name, key.requests_per_minute) == ("new", 7)
    assert (key.account, key.digest, key.scopes) == (
        account,
        created.key.digest,
        created.key.scopes,
    )
    assert find_principal(created.secret).limits.requests_per_minute == 7


def test_the_list_shows_states_and_escapes_names(admin_client, django_assert_max_num_queries):
    create_key(name=HOSTILE, account_name=HOSTILE)
    expired = create_key(name="b").key
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(days=1))
    revoked = create_key(name="c").key
    ApiKey.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())
    for _ in range(5):
        create_key(name="more")
    with django_assert_max_num_queries(8):
        page = admin_client.get(reverse(f"{KEYS}_changelist")).content.decode()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    for state, count in (("active", 6), ("expired", 1), ("revoked", 1)):
        response = admin_client.get(reverse(f"{KEYS}_changelist"), {"state": state})
        keys = response.context["cl"].result_list
        assert [key.state for key in keys] == [state] * count


def test_a_hostile_name_is_escaped_everywhere(admin_client):
    key = create_key(name=HOSTILE, account_name=HOSTILE).key
    for url in (
        reverse(f"{KEYS}_change", args=[key.pk]),
        reverse(f"{KEYS}_history", args=[key.pk]),
        reverse("admin:access_account_change", args=[key.account_id]),
        reverse("admin:access_account_changelist"),
        reverse(f"{KEYS}_changelist") + "?q=%3Cscript%3E",
    ):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert HOSTILE not in response.content.decode()


def test_the_action_revokes_and_reports_counts(admin_client):
    keys = [create_key(name=name).key for name in "ab"]
    ApiKey.objects.filter(pk=keys[0].pk).update(revoked_at=timezone.now())
    response = admin_client.post(
        reverse(f"{KEYS}_changelist"),
        {"action": "revoke", "_selected_action": [key.pk for key in keys]},
        follow=True,
    )
    assert "Revoked 1 keys; 1 already were." in response.content.decode()
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert LogEntry.objects.get().object_id == str(keys[1].pk)


def test_keys_are_never_deleted_here(admin_client):
    key = create_key(name="a").key
    assert admin_client.post(reverse(f"{KEYS}_delete", args=[key.pk])).status_code == 403
    page = admin_client.get(reverse(f"{KEYS}_changelist")).content.decode()
    assert "delete_selected" not in page


def test_an_account_with_keys_cannot_be_deleted_here(admin_client):
    key = create_key(name="a").key
    url = reverse("admin:access_account_delete", args=[key.account_id])
    admin_client.post(url, {"post": "yes"})
    assert Account.objects.count() == 1


def test_an_account_may_get_a_limit_of_running_jobs(admin_client, account):
    url = reverse("admin:access_account_change", args=[account.pk])
    changes = {
        "name": "acme",
        "max_running_jobs": "3",
        "job_priority": "5",
        "notify_emails": "example.com",
    }
    assert admin_client.post(url, changes).status_code == 302
    account.refresh_from_db()
    assert account.max_running_jobs == 3


def test_staff_who_may_only_look_can_neither_add_nor_revoke(client, django_user_model):
    from django.contrib.auth.models import Permission

    staff = django_user_model.objects.create_user("viewer", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    client.force_login(staff)
    key = create_key(name="a").key
    assert client.get(reverse(f"{KEYS}_add")).status_code == 403
    client.post(reverse(f"{KEYS}_changelist"), {"action": "revoke", "_selected_action": [key.pk]})
    assert ApiKey.objects.get().revoked_at is None


def test_an_account_with_keys_is_not_deleted_and_its_keys_are_counted(admin_client, account):
    create_key(name="one", account_name="acme")
    delete = reverse("admin:access_account_delete", args=[account.pk])
    assert b"API key" in admin_client.get(delete).content
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    ApiKey.objects.all().delete()
    admin_client.post(delete, {"post": "yes"})
    assert not Account.objects.exists()
