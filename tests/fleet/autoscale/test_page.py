"""Staff's page of the autoscaler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from fleet.autoscale import history
from fleet.autoscale.history import Entry
from scaling import redis_client

pytestmark = pytest.mark.django_db
NOW = 1_760_000_000.0


@pytest.fixture(autouse=True)
def no_history() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    redis_client.reset()
    keys = [f"headrace:autoscale:decisions:{fleet}" for fleet in ("web", "workers")]
    redis_client.run(lambda client: client.delete(*keys))


def decide(number: int, *, size: int = 2, target: int = 2, reason: str = "no rule holds") -> None:
    history.add(
        Entry(
            fleet="web",
            at=NOW + 60 * number,
            kind="up" if target > size else "keep",
            size=size,
            target=target,
            reason=reason,
            values={"requests_per_minute": 100.0 * (number + 1)},
        )
    )


def test_the_page_shows_the_target_against_the_load(admin_client: Client) -> None:
    for number in range(3):
        decide(number)
    decide(3, target=4, reason="cpu_percent was 70 for 300 s, above 60")
    response = admin_client.get(reverse("autoscaler"))
    assert response.status_code == 200
    (section,) = response.context["sections"]
    assert section.chart.most == 800
    assert section.most_size == 4
    # Half the height for two of at most four, then the top.
    assert section.line.split()[0] == "0,60.0"
    assert section.line.split()[-1] == "48,0.0"
    page = response.content.decode()
    assert "cpu_percent was 70 for 300 s, above 60" in page
    assert "at most 800 requests a minute" in page


def test_a_thousand_decisions_are_drawn_in_ninety_columns(admin_client: Client) -> None:
    for number in range(1000):
        decide(number)
    (section,) = admin_client.get(reverse("autoscaler")).context["sections"]
    assert section.chart.width == 90 * 12
    assert len(section.rows) == 100


def test_the_page_without_decisions_has_a_note(admin_client: Client) -> None:
    assert b"Nothing has been decided yet" in admin_client.get(reverse("autoscaler")).content


def test_the_page_without_redis_has_a_note(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise redis_client.RedisUnavailable("it is unavailable", may_have_run=False)

    with monkeypatch.context() as patch:
        patch.setattr(redis_client, "run", away)
        response = admin_client.get(reverse("autoscaler"))
    assert b"cannot be read: it is unavailable" in response.content


def test_reasons_are_shown_as_text(admin_client: Client) -> None:
    decide(0, reason="<script>alert(1)</script>")
    assert b"<script>alert(1)" not in admin_client.get(reverse("autoscaler")).content


def test_only_who_may_see_the_autoscaler_sees_the_page(client: Client) -> None:
    user = User.objects.create_user("clerk", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse("autoscaler")).status_code == 403
    assert b"Autoscaler" not in client.get(reverse("admin:index")).content
    user.user_permissions.add(Permission.objects.get(codename="view_autoscaler"))
    assert client.get(reverse("autoscaler")).status_code == 200
    assert b"Autoscaler" in client.get(reverse("admin:index")).content


def test_strangers_must_log_in(client: Client) -> None:
    response = client.get(reverse("autoscaler"))
    assert response.status_code == 302
    assert "/admin/login/" in response["Location"]
