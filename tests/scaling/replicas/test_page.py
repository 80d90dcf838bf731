"""The admin's page "Database servers": picture, chart and buttons."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from scaling.redis_client import RedisUnavailable
from scaling.replicas import detachment
from scaling.replicas.health import GOOD_SAMPLES, Sample
from scaling.replicas.position import Position
from scaling.replicas.process_metrics import ProcessMetrics
from scaling.replicas.report import make
from scaling.replicas.svg import CHART_HEIGHT, CHART_WIDTH, draw, draw_lag
from scaling.replicas.topology import TOPOLOGY, Server, Topology
from tests.stack_plugin import EmbeddedStack

pytestmark = pytest.mark.django_db

NAME = "far-away"


@pytest.fixture(autouse=True)
def _pages_without_collected_static_files(settings: Any) -> None:
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


def replica(name: str, *, lag: float = 0.0) -> Server:
    server = Server(name)
    server.take(
        Sample(
            taken_at=time.monotonic(),
            is_in_recovery=True,
            position=Position(1, 0x3000148),
            started_at="then",
        )
    )
    server.fault, server.good_samples = "", GOOD_SAMPLES
    server.lag_seconds, server.lag_bytes = lag, int(lag * 1000)
    server.history.extend([(time.time() - 60, lag, 0), (time.time(), lag / 2, 0)])
    return server


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Server]:
    """This process's state: one healthy replica, and one that lags."""
    known = {NAME: replica(NAME), "slow": replica("slow", lag=12.0)}
    known["slow"].fault = "lagging"
    monkeypatch.setattr(TOPOLOGY, "replicas", known)
    counted = ProcessMetrics(processes=1, reads=Counter({"default": 1, NAME: 3}))
    monkeypatch.setattr("scaling.replicas.page.process_metrics.own", lambda servers: counted)
    monkeypatch.setattr("scaling.replicas.detachment.replica_names", lambda: sorted(known))
    return known


@pytest.fixture
def staff(client: Client, django_user_model: Any) -> Client:
    """A member of staff who may only view."""
    user = django_user_model.objects.create_user("someone", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_database_servers"))
    client.force_login(user)
    return client


@pytest.fixture
def superuser(client: Client, django_user_model: Any) -> Iterator[Client]:
    """A superuser; what they detach is attached at the end."""
    client.force_login(django_user_model.objects.create_superuser("root"))
    yield client
    detachment.remove_detached(NAME)


def change(verb: str, name: str = NAME) -> str:
    return reverse("database-server-change", args=[verb, name])


def text_of(client: Client) -> str:
    response = client.get(reverse("database-servers"))
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


# --- The drawing --------------------------------------------------------------------------------
def test_arrows_lead_from_the_primary_to_each_replica() -> None:
    topology = Topology()
    topology.replicas = {name: replica(name) for name in ("a", "b", "c")}
    topology.replicas["b"].fault = "unreachable"
    topology.replicas["c"].is_detached = True
    drawn = draw(make(topology, ProcessMetrics()))
    assert [box.kind for box in drawn.boxes] == ["bad", "good", "bad", "waiting"]
    assert [arrow.kind for arrow in drawn.arrows] == ["good", "bad", "waiting"]
    assert len({box.y for box in drawn.boxes[1:]}) == 3
    assert all(0 <= box.y <= drawn.height - drawn.box_height for box in drawn.boxes)
    assert {arrow.y1 for arrow in drawn.arrows} == {drawn.boxes[0].middle}
    assert [arrow.y2 for arrow in drawn.arrows] == [box.middle for box in drawn.boxes[1:]]


def test_a_primary_alone_is_drawn_too() -> None:
    drawn = draw(make(Topology(), ProcessMetrics()))
    assert len(drawn.boxes) == 1
    assert not drawn.arrows


def test_the_chart_has_ten_minutes_from_left_to_right() -> None:
    server = Server("a")
    server.history.extend([(100.0, 50.0, 0), (1000.0, 4.0, 0), (1300.0, 2.0, 0), (1600.0, 0.0, 0)])
    chart = draw_lag([server], now=1600.0)
    # The first is too long ago.
    assert chart.lines[0].points == (
        f"0.0,0.0 {CHART_WIDTH / 2:.1f},{CHART_HEIGHT / 2:.1f} {CHART_WIDTH:.1f},{CHART_HEIGHT:.1f}"
    )
    assert chart.top_seconds == 4
    assert [lags for _, lags in chart.rows] == [[4.0], [2.0], [0.0]]


def test_milliseconds_of_lag_look_small() -> None:
    server = Server("a")
    server.history.append((1000.0, 0.01, 0))
    assert draw_lag([server], now=1000.0).top_seconds == 1


# --- The page -----------------------------------------------------------------------------------
@pytest.mark.usefixtures("servers")
def test_staff_see_the_topology_and_whose_figures_these_are(staff: Client) -> None:
    text = text_of(staff)
    assert "this process's own since it began; another process has others" in text
    assert text.count('class="server-arrow server-arrow-') == 2
    assert '<text class="server-name" x="12" y="24">far-away</text>' in text
    assert "75% of the reads" in text
    assert "server-box-bad" in text
    assert "lagging" in text
    assert text.count("<polyline") == 2
    assert "slow: 12.0 s at most" in text
    # Who may only look has no buttons.
    assert "Detach" not in text


def test_the_page_reports_that_no_replicas_are_configured(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TOPOLOGY, "replicas", {})
    assert "There are no replicas" in text_of(staff)


def test_staff_without_the_permission_see_nothing(client: Client, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("clerk", is_staff=True))
    assert client.get(reverse("database-servers")).status_code == 403
    assert reverse("database-servers") not in client.get(reverse("admin:index")).content.decode()


def test_others_are_sent_to_the_login(client: Client, django_user_model: Any) -> None:
    assert client.get(reverse("database-servers")).status_code == 302
    client.force_login(django_user_model.objects.create_user("customer"))
    assert client.get(reverse("database-servers")).status_code == 302


@pytest.mark.usefixtures("servers")
def test_the_start_page_links_to_it(staff: Client) -> None:
    response = staff.get(reverse("admin:index"))
    assert reverse("database-servers") in response.content.decode()


# --- The buttons --------------------------------------------------------------------------------
def test_detaching_asks_first_and_is_logged(superuser: Client, servers: dict[str, Server]) -> None:
    assert change("detach") in text_of(superuser)
    asked = superuser.get(change("detach"))
    assert "No other replica is in rotation" in asked.content.decode()
    assert detachment.read_detached() == set()
    done = superuser.post(change("detach"))
    assert done.status_code == 302
    [message] = get_messages(done.wsgi_request)
    assert str(message) == f"{NAME} is detached; all nodes apply it within a second."
    assert detachment.read_detached() == {NAME}
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == (f"Database server {NAME}", "Detached.")
    # The watcher sees it, and the page has the other button.
    servers[NAME].is_detached = True
    assert change("attach") in text_of(superuser)
    superuser.post(change("attach"))
    assert detachment.read_detached() == set()
    # The start page lists entries that are of no model.
    assert superuser.get(reverse("admin:index")).status_code == 200


@pytest.mark.usefixtures("servers")
def test_who_may_only_look_changes_nothing(staff: Client) -> None:
    assert staff.get(change("detach")).status_code == 403
    assert staff.post(change("detach")).status_code == 403
    assert detachment.read_detached() == set()


@pytest.mark.usefixtures("servers")
def test_a_change_wants_a_token_of_the_form(superuser: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = superuser.cookies
    assert strict.post(change("detach")).status_code == 403
    assert detachment.read_detached() == set()


@pytest.mark.usefixtures("servers")
def test_a_name_that_is_not_there_is_not_found(superuser: Client) -> None:
    assert superuser.post(change("detach", "nobody")).status_code == 404
    assert superuser.post(reverse("database-servers") + "drop/slow/").status_code == 404


@pytest.mark.usefixtures("servers")
def test_the_page_reports_a_detach_that_redis_did_not_take(
    superuser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise RedisUnavailable("it is unavailable", may_have_run=False)

    monkeypatch.setattr(detachment, "add_detached", fail)
    monkeypatch.setattr("scaling.replicas.detachment.RETRY_SECONDS", 0.0)
    done = superuser.post(change("detach"))
    [message] = get_messages(done.wsgi_request)
    assert "Redis does not answer (it is unavailable)" in str(message)
    assert not LogEntry.objects.exists()


def test_a_node_of_the_stack_shows_its_own_view(stack: EmbeddedStack) -> None:
    [name] = stack.replica_urls
    with httpx.Client(base_url=stack.url, follow_redirects=True, timeout=30) as client:
        client.get("/admin/login/")
        client.post(
            "/admin/login/",
            data={
                "username": stack.admin_user,
                "password": stack.admin_password,
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
                "next": "/admin/database-servers/",
            },
            headers={"Referer": f"{stack.url}/admin/login/"},
        )
        text = client.get("/admin/database-servers/").text
    assert re.search(r"As node[12], process \d+, sees them", text)
    assert f">{name}</text>" in text
    assert "server-box-good" in text
    assert "<polyline" in text
