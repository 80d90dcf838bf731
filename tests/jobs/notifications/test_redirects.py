"""Webhooks that a receiver sends elsewhere."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.jobs.notifications.receivers import (
    Receiver,
    answer,
    in_turn,
    redirect,
)
from tests.jobs.notifications.sending import deliver, timed

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_receivers")]


# --- Redirects ----------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_is_posted_again(status: int) -> None:
    with Receiver(answer(200)) as last, Receiver(redirect(last.url("/new"), status)) as first:
        assert deliver(first.url()).is_delivered
    assert last.received[0].path == "/new"
    assert last.received[0].body == first.received[0].body
    assert last.received[0].headers["host"] == f"127.0.0.1:{last.port}"


def test_a_relative_redirect_is_followed() -> None:
    with Receiver(in_turn(redirect("../next?x=1"), answer(200))) as receiver:
        assert deliver(receiver.url("/a/b")).is_delivered
    assert [received.path for received in receiver.received] == ["/a/b", "/next?x=1"]


def test_an_unknown_name_is_a_failure(capfd) -> None:
    assert "gaierror" in deliver("http://no-such-name.invalid/").error
    assert "Traceback" not in capfd.readouterr().err


def test_redirects_end_after_three() -> None:
    with Receiver(redirect("/again")) as receiver:
        outcome = deliver(receiver.url())
    assert len(receiver.received) == 4
    assert outcome.error == "more than 3 redirects"


@pytest.mark.usefixtures("short_time")
def test_redirects_share_the_time() -> None:
    def slow_redirect(receiver: Receiver, handler: Any) -> None:
        time.sleep(0.35)
        redirect("/again")(receiver, handler)

    with Receiver(slow_redirect) as receiver:
        outcome, _ = timed(receiver.url())
    assert outcome.error == "no answer within 0.6 s"
    assert len(receiver.received) < 4


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:1/", "//127.0.0.1/", "http://localhost/", "http://169.254.169.254/latest",
     "http://[::ffff:127.0.0.1]/", "http://2130706433/", "file:///etc/passwd", "http://u:p@8.8.8.8/",
     "http://"],
)  # fmt: skip
def test_each_redirects_address_is_checked(location: str, settings) -> None:
    def forbid_and_redirect(receiver: Receiver, handler: Any) -> None:
        # The first receiver must be reachable here, and the one that it leads to must not be.
        settings.WEBHOOK_ALLOW_PRIVATE = False
        redirect(location)(receiver, handler)

    with Receiver(forbid_and_redirect) as receiver:
        outcome = deliver(receiver.url())
    assert outcome.error.startswith("the address must")
    assert len(receiver.received) == 1


def test_a_private_receiver_gets_nothing(settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with Receiver(answer(200)) as receiver:
        for host in ("127.0.0.1", "localhost", "2130706433"):
            assert "private address" in deliver(receiver.url(host=host)).error
    assert receiver.received == []
