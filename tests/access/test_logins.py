"""Failed logins are counted by user and address, on all nodes, and never for ever."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.urls import reverse

import scaling.redis_client
from access.errors import PasswordsBusy, TooManyLogins
from access.logins import shared
from access.logins.attempts import LOCAL_FAILURES, counted, digest_of
from access.logins.backend import LimitedBackend
from access.logins.local import LocalFailures
from access.logins.verdict import Attempt
from node.client_address import client_network, network_of
from tests.support.calls import manage
from tests.support.redis_server import own_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test import Client

    from tests.stack_plugin import EmbeddedStack
    from tests.support.redis_server import OwnRedis

__all__ = ["own_redis"]

OFFICE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def _small_limits(settings: Any) -> Iterator[None]:
    settings.LOGIN_FAILURES, settings.LOGIN_ADDRESS_FAILURES = 3, 6
    settings.LOGIN_USER_FAILURES, settings.LOGIN_WINDOW_SECONDS = 8, 60
    LOCAL_FAILURES.clear()
    yield
    scaling.redis_client.reset()


def fail(user: str, address: str, times: int = 1) -> None:
    for _ in range(times):
        with counted(user=user, address=address):
            pass


def succeed(user: str, address: str) -> None:
    with counted(user=user, address=address) as outcome:
        outcome.is_right = True


def refusal(user: str, address: str) -> float:
    """Return the seconds to wait that a refused login names."""
    with pytest.raises(TooManyLogins) as caught:
        fail(user, address)
    assert caught.value.retry_after_seconds is not None
    return caught.value.retry_after_seconds


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_user_at_an_address_is_refused_after_so_many_failures(
    own_redis: OwnRedis, is_shared: bool
) -> None:
    if not is_shared:
        own_redis.kill()
    fail("ann", OFFICE, 3)
    assert 50 < refusal("ann", OFFICE) <= 60
    # Others there, and the same user elsewhere, are not.
    fail("bob", OFFICE)
    fail("ann", ELSEWHERE)


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_address_is_refused_with_any_made_up_names(own_redis: OwnRedis, is_shared: bool) -> None:
    if not is_shared:
        own_redis.kill()
    for number in range(6):
        fail(f"made-up-{number}", OFFICE)
    refusal("made-up-7", OFFICE)
    fail("made-up-7", ELSEWHERE)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_user_is_refused_after_failures_from_many_addresses(
    own_redis: OwnRedis, is_shared: bool
) -> None:
    if not is_shared:
        own_redis.kill()
    for number in range(8):
        fail("ann", f"198.51.100.{number}")
    refusal("ann", ELSEWHERE)


def test_strangers_do_not_lock_out_a_user_who_has_logged_in_there_before(
    own_redis: OwnRedis,
) -> None:
    succeed("ann", OFFICE)
    for number in range(8):
        fail("ann", f"198.51.100.{number}")
    for number in range(5):
        fail(f"made-up-{number}", OFFICE)
    refusal("ann", ELSEWHERE)
    succeed("ann", OFFICE)


def test_known_addresses_are_bounded_and_get_old(own_redis: OwnRedis, settings: Any) -> None:
    for number in range(shared.MAX_KNOWN_ADDRESSES + 5):
        succeed("ann", f"203.0.113.{number}")
    key = f"headrace:{{logins}}:known:{digest_of('ann')}"
    client = own_redis.client()
    assert client.zcard(key) == shared.MAX_KNOWN_ADDRESSES
    assert 0 < client.ttl(key) <= settings.LOGIN_KNOWN_DAYS * 86_400
    succeed("ann", OFFICE)
    client.zadd(key, {digest_of(OFFICE): time.time() - (settings.LOGIN_KNOWN_DAYS + 1) * 86_400})
    for number in range(8):
        fail("ann", f"198.51.100.{number}")
    refusal("ann", OFFICE)


def test_a_right_password_resets_its_failures(own_redis: OwnRedis) -> None:
    fail("ann", OFFICE, 2)
    succeed("ann", OFFICE)
    fail("ann", OFFICE, 2)
    succeed("ann", OFFICE)


def test_guesses_at_the_same_time_count_before_they_are_checked(own_redis: OwnRedis) -> None:
    with ExitStack() as running:
        for _ in range(3):
            running.enter_context(counted(user="ann", address=OFFICE))
        refusal("ann", OFFICE)


@pytest.mark.parametrize("error", [PasswordsBusy(retry_after_seconds=1), RuntimeError()])
def test_a_password_that_was_not_checked_does_not_count(
    own_redis: OwnRedis, error: Exception
) -> None:
    for _ in range(10):
        with pytest.raises(type(error)), counted(user="ann", address=OFFICE):
            raise error
    # The process may keep other keys in its Redis.
    assert own_redis.client().keys("headrace:{logins}*") == []


def test_refused_logins_neither_prolong_the_window_nor_fill_the_store(own_redis: OwnRedis) -> None:
    for number in range(6):
        fail(f"name-{number}" * 1000, OFFICE)
    client = own_redis.client()
    # The process may keep other keys in its Redis.
    keys = client.keys("headrace:{logins}*")
    waits = [refusal(f"other-{number}", OFFICE) for number in range(200)]
    assert set(client.keys("headrace:{logins}*")) == set(keys)
    assert waits == sorted(waits, reverse=True)
    assert all(0 < client.pttl(key) <= 60_000 for key in keys)
    assert all(len(key) < 80 for key in keys)


def test_the_window_ends_by_itself(own_redis: OwnRedis, settings: Any) -> None:
    settings.LOGIN_WINDOW_SECONDS = 1
    fail("ann", OFFICE, 3)
    refusal("ann", OFFICE)
    time.sleep(1.1)
    succeed("ann", OFFICE)


def test_the_local_counts_are_bounded_and_end() -> None:
    now = [0.0]
    failures = LocalFailures(max_entries=10, clock=lambda: now[0])
    for number in range(100):
        failures.admit(Attempt(user=str(number), address=str(number)))
    assert len(failures) == 10
    for _ in range(3):
        failures.admit(Attempt("ann", "a"))
    assert failures.admit(Attempt("ann", "a")).refused_by == "pair"
    now[0] = 61.0
    assert failures.admit(Attempt("ann", "a")).refused_by is None


def test_no_limit_is_no_limit(own_redis: OwnRedis, settings: Any) -> None:
    settings.LOGIN_FAILURES = settings.LOGIN_ADDRESS_FAILURES = settings.LOGIN_USER_FAILURES = 0
    fail("ann", OFFICE, 20)


@pytest.mark.parametrize("of", ["user", "address"])
def test_an_operator_forgets_failures(own_redis: OwnRedis, capsys: Any, of: str) -> None:
    if of == "user":
        fail("ann", OFFICE, 3)
    else:
        for number in range(6):
            fail(f"made-up-{number}", OFFICE)
    value = {"user": "ann", "address": OFFICE}[of]
    call_command("logins", "show", f"--{of}", value)
    assert re.search(rf"{of} \S+: [36] failed logins, reset in \d\d s", capsys.readouterr().out)
    call_command("logins", "unlock", f"--{of}", value)
    assert capsys.readouterr().out == "Reset.\n"
    succeed("ann", OFFICE)
    call_command("logins", "unlock", f"--{of}", value)
    assert capsys.readouterr().out == "There were no failed logins.\n"


def test_the_command_reports_its_errors(own_redis: OwnRedis) -> None:
    with pytest.raises(CommandError, match="Name a --user"):
        call_command("logins", "show")
    with pytest.raises(CommandError, match="not an IP address"):
        call_command("logins", "unlock", "--address", "nowhere")
    own_redis.kill()
    with pytest.raises(CommandError, match="Redis"):
        call_command("logins", "unlock", "--user", "ann")


@pytest.mark.django_db
def test_the_page_says_how_long_to_wait(
    own_redis: OwnRedis, client: Client, django_user_model: Any, settings: Any
) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    django_user_model.objects.create_user("ann", password="right", is_staff=True)
    url = reverse("admin:login")
    for _ in range(3):
        assert client.post(url, {"username": "ann", "password": "wrong"}).status_code == 200
    response = client.post(url, {"username": "ann", "password": "right"})
    assert response.status_code == 429
    assert 50 < int(response["Retry-After"]) <= 60
    assert "no-store" in response["Cache-Control"]
    assert "Log in again in 1 minute," in response.content.decode()
    call_command("logins", "unlock", "--user", "ann")
    assert client.post(url, {"username": "ann", "password": "right"}).status_code == 302


def change(client: Client, old: str, new: str = "Other-password-1") -> Any:
    form = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post(reverse("admin:password_change"), form)


@pytest.mark.django_db
def test_a_wrong_old_password_counts_as_a_failed_login(
    own_redis: OwnRedis, client: Client, django_user_model: Any, settings: Any
) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    ann = django_user_model.objects.create_user("ann", password="right", is_staff=True)
    client.force_login(ann)
    assert "Password change" in client.get(reverse("admin:password_change")).content.decode()
    for _ in range(3):
        assert "entered incorrectly" in change(client, "wrong").content.decode()
    response = change(client, "right")
    assert response.status_code == 429
    assert 50 < int(response["Retry-After"]) <= 60
    # Guesses there and at the login are one count.
    form = {"username": "ann", "password": "right"}
    assert client.post(reverse("admin:login"), form).status_code == 429
    call_command("logins", "unlock", "--user", "ann")
    assert change(client, "right").status_code == 302
    ann.refresh_from_db()
    assert ann.check_password("Other-password-1")
    # The session goes on, and there is none without a login.
    assert client.get(reverse("admin:password_change_done")).status_code == 200
    client.logout()
    assert "/admin/login/" in change(client, "right")["Location"]


@pytest.mark.django_db
def test_a_page_without_a_thread_for_its_password_is_a_503(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.PASSWORD_HASHERS = ["access.passwords.ThreadedPBKDF2Hasher"]

    def busy(*args: Any) -> str:
        raise PasswordsBusy(retry_after_seconds=5)

    monkeypatch.setattr("access.passwords.ThreadedPBKDF2Hasher.encode", busy)
    form = {"username": "bob", "password1": "Other-password-1", "password2": "Other-password-1"}
    response = admin_client.post(reverse("admin:auth_user_add"), form)
    assert (response.status_code, response["Retry-After"]) == (503, "5")


@pytest.mark.django_db
def test_a_command_is_not_limited(own_redis: OwnRedis, django_user_model: Any) -> None:
    django_user_model.objects.create_user("ann", password="right")
    for _ in range(5):
        assert LimitedBackend().authenticate(None, username="ann", password="wrong") is None
    assert own_redis.client().dbsize() == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("::ffff:127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.9", "192.0.2.1", "192.0.2.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "x" * 5000, "unknown"),
        ("", "192.0.2.1", "192.0.2.1"),
        ("", "", "unknown"),
        ("127.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("127.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "fe80::1%eth0", "fe80::/64"),
    ],
)
def test_the_clients_address_is_the_proxies_word(peer: str, forwarded: str, expected: str) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)
    assert client_network(request) == expected


def test_addresses_of_a_network_of_ipv6_are_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")


def test_a_node_serves_requests_while_it_checks_passwords(
    stack: EmbeddedStack, node_urls: list[str]
) -> None:
    """On the loop, other requests would be answered between two hashes only."""
    url = node_urls[0]
    page = httpx.get(f"{url}/admin/login/")
    manage(stack, "logins", "unlock", "--user", "admin", "--address", "127.0.0.1")
    with ThreadPoolExecutor() as threads:
        logins = [threads.submit(log_in, page, f"nobody-{number}") for number in range(4)]
        answered = 0
        while not all(login.done() for login in logins):
            httpx.get(f"{url}/health/live").raise_for_status()
            answered += 1
    # A busy machine may leave some without a thread in time.
    assert 200 in (statuses := {login.result() for login in logins})
    assert statuses <= {200, 503}
    assert answered > 20
    manage(stack, "logins", "unlock", "--address", "127.0.0.1")


def log_in(page: httpx.Response, name: str) -> int:
    """Return the status of a login with the form of a page."""
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    form = {"csrfmiddlewaretoken": token, "username": name, "password": "wrong"}
    with httpx.Client(cookies=page.cookies, timeout=30) as client:
        return client.post(page.url, data=form).status_code
