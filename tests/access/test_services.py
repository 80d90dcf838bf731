from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from access import services
from access.errors import InvalidOption, Unauthenticated, UnknownKey
from access.models import SCOPES, Account, ApiKey
from access.services import create_key, find_principal, revoke_key
from config.api.ids import new_uuid
from scaling.connections import release_connections
from scaling.database_clock import CLOCK
from scaling.loading_cache import LoadingCache

pytestmark = pytest.mark.django_db


def code_of(secret: str) -> str | None:
    with pytest.raises(Unauthenticated) as refusal:
        find_principal(secret)
    return refusal.value.code


def use_key_cache(monkeypatch, *, ttl: float) -> None:
    cache = LoadingCache(load=services.load_key, ttl_seconds=ttl, max_entries=100)
    monkeypatch.setattr(services, "KNOWN_KEYS", cache)


def test_a_new_key_is_found_by_its_secret():
    created = create_key(name=" ci ", account_name="acme", requests_per_minute=5, max_concurrent=0)
    principal = find_principal(created.secret)
    assert principal.key_id == created.key.id
    assert principal.account_id == Account.objects.get().id
    assert (principal.account_name, principal.name) == ("acme", "ci")
    assert principal.scopes == set(SCOPES)
    assert principal.limits.requests_per_minute == 5
    assert principal.is_authenticated


def test_a_secret_is_letters_and_digits_and_never_the_same():
    secrets = {services.set_secret(ApiKey()) for _ in range(200)}
    assert len(secrets) == 200
    assert all(secret.startswith("hr_") and secret[3:].isalnum() for secret in secrets)
    assert {len(secret) for secret in secrets} == {52}


def test_the_database_knows_a_hash_and_a_hint_only():
    created = create_key(name="ci")
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_jsonb(k)::text FROM access_apikey k")
        (row,) = cursor.fetchone()
    assert created.secret[8:] not in row
    assert created.key.hint == f"{created.secret[:8]}…"
    assert created.key.hint in row


def test_a_missing_option_is_the_setting_s_and_zero_is_no_limit(settings):
    settings.DEFAULT_REQUESTS_PER_MINUTE = 60
    settings.DEFAULT_TOKENS_PER_DAY = 1000
    settings.DEFAULT_MAX_CONCURRENT = 5
    limits = find_principal(create_key(name="a").secret).limits
    values = (limits.requests_per_minute, limits.tokens_per_day, limits.max_concurrent)
    assert values == (60, 1000, 5)
    unlimited = create_key(name="b", requests_per_minute=0, tokens_per_day=0, max_concurrent=0)
    limits = find_principal(unlimited.secret).limits
    values = (limits.requests_per_minute, limits.tokens_per_day, limits.max_concurrent)
    assert values == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 101}, "100"),
        ({"name": "a\x00b"}, "printable"),
        ({"name": "a\nb"}, "printable"),
        ({"name": "\x1b[31mred"}, "printable"),
        ({"name": "\udcff"}, "printable"),
        ({"name": "a", "account_name": ""}, "account name"),
        ({"name": "a", "account_name": "a\x00"}, "account name"),
        ({"name": "a", "account_name": "x" * 101}, "account name"),
        ({"name": "a", "requests_per_minute": -1}, "requests per minute"),
        ({"name": "a", "requests_per_minute": 10**30}, "requests per minute"),
        ({"name": "a", "tokens_per_day": -1}, "tokens per day"),
        ({"name": "a", "tokens_per_day": 10**30}, "tokens per day"),
        ({"name": "a", "max_concurrent": -1}, "max concurrent"),
        ({"name": "a", "max_concurrent": 10**9}, "max concurrent"),
        ({"name": "a", "expires_days": -1}, "expires days"),
        ({"name": "a", "expires_days": 10**9}, "expires days"),
        ({"name": "a", "scopes": ["nope"]}, "nope"),
        ({"name": "a", "scopes": []}, "scope"),
    ],
)
def test_bad_options_are_refused_by_name_and_make_nothing(options, words):
    with pytest.raises(InvalidOption, match=words):
        create_key(**options)
    assert not Account.objects.exists()
    assert not ApiKey.objects.exists()


def test_names_in_other_scripts_are_welcome():
    created = create_key(name="日本語 🚀", account_name="Ærøskøbing")
    assert find_principal(created.secret).name == "日本語 🚀"


def test_unknown_and_malformed_keys_look_the_same():
    good = create_key(name="a").secret
    flipped = good[:-1] + ("0" if good[-1] != "0" else "1")
    unknown = services.set_secret(ApiKey())
    malformed = ["", "hr_", "x", good[3:], f"{good} ", f"{good}\n", flipped, "hr_" + "é" * 49]
    malformed += ["hr_" + "9" * 8000, "hr_\x00" + good[4:], "hr_" + "٣" * 49, good.upper()]
    assert {code_of(secret) for secret in [unknown, *malformed]} == {"invalid_api_key"}


def test_malformed_keys_cost_no_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        code_of("hr_" + "a" * 49)


def test_an_expired_key_says_so_at_the_second_it_expires(monkeypatch):
    created = create_key(name="a", expires_days=1)
    find_principal(created.secret)
    later = (timezone.now() + timedelta(days=1, seconds=1)).timestamp()
    monkeypatch.setattr(CLOCK, "now", lambda: later)
    # Still in the cache, and refused all the same.
    assert code_of(created.secret) == "expired_api_key"


def test_expiry_after_no_days_is_none():
    assert create_key(name="a", expires_days=0).key.expires_at is None


def test_a_revoked_key_is_refused_at_once_here():
    created = create_key(name="a")
    find_principal(created.secret)
    revoke_key(key_id=created.key.id)
    assert code_of(created.secret) == "revoked_api_key"


def test_a_revocation_elsewhere_arrives_within_the_cache_s_time(monkeypatch):
    use_key_cache(monkeypatch, ttl=0.2)
    created = create_key(name="a")
    find_principal(created.secret)
    ApiKey.objects.update(revoked_at=timezone.now())
    threading.Event().wait(0.21)
    assert code_of(created.secret) == "revoked_api_key"


def test_the_default_cache_time_is_one_second(settings):
    assert settings.KEY_CACHE_SECONDS == 1.0


def test_revoking_twice_leaves_the_first_time():
    created = create_key(name="a")
    first = revoke_key(key_id=created.key.id)
    assert revoke_key(key_id=created.key.id).revoked_at == first.revoked_at


def test_revoking_what_is_not_there_is_an_error():
    with pytest.raises(UnknownKey):
        revoke_key(key_id=new_uuid())


def test_a_known_key_costs_no_query(django_assert_num_queries):
    created = create_key(name="a")
    find_principal(created.secret)
    with django_assert_num_queries(0):
        find_principal(created.secret)


def test_the_use_is_noted_at_most_once_in_five_minutes(monkeypatch):
    use_key_cache(monkeypatch, ttl=0)
    created = create_key(name="a")
    find_principal(created.secret)
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    find_principal(created.secret)
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=6))
    find_principal(created.secret)
    used_at = ApiKey.objects.get().last_used_at
    assert used_at is not None
    assert used_at > first


def test_a_refused_key_counts_as_unused():
    created = create_key(name="a")
    revoke_key(key_id=created.key.id)
    code_of(created.secret)
    assert ApiKey.objects.get().last_used_at is None


def test_a_key_works_while_its_use_cannot_be_written(monkeypatch):
    def fail(*args, **options):
        raise DatabaseError("read-only")

    created = create_key(name="a")
    monkeypatch.setattr("django.db.models.query.QuerySet.update", fail)
    assert find_principal(created.secret).name == "a"


def test_a_database_error_is_not_remembered(monkeypatch):
    created = create_key(name="a")
    with monkeypatch.context() as patch:
        patch.setattr("access.services.record_use", _raise_database_error)
        with pytest.raises(DatabaseError):
            find_principal(created.secret)
    assert find_principal(created.secret).name == "a"


def _raise_database_error(key: ApiKey) -> None:
    raise DatabaseError("gone")


@pytest.mark.django_db(transaction=True)
def test_keys_made_at_once_share_one_new_account():
    def make(number: int) -> None:
        try:
            create_key(name=f"k{number}", account_name="new")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(12)))
    assert Account.objects.count() == 1
    assert ApiKey.objects.count() == 12


@pytest.mark.django_db(transaction=True)
def test_many_first_requests_of_one_key_cause_one_query_and_hold_no_connection(monkeypatch):
    created = create_key(name="a")
    loads = []
    load = services.load_key

    def counting(digest: str):
        loads.append(digest)
        threading.Event().wait(0.05)
        return load(digest)

    cache = LoadingCache(load=counting, ttl_seconds=5, max_entries=100)
    monkeypatch.setattr(services, "KNOWN_KEYS", cache)
    held = []

    def ask(_: int) -> str:
        name = find_principal(created.secret).name
        held.append(connection.connection is not None)
        return name

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(ask, range(64))) == {"a"}
    assert len(loads) == 1
    assert not any(held)


@pytest.mark.django_db(transaction=True)
def test_connections_are_released_but_not_within_a_transaction():
    Account.objects.count()
    assert connection.connection is not None
    release_connections()
    assert connection.connection is None
    assert Account.objects.count() == 0


def test_a_transaction_holds_its_connection():
    Account.objects.create(name="a")
    release_connections()
    assert Account.objects.get().name == "a"
