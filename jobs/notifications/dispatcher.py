"""Deliver what is due, in a worker process under gevent."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter

import gevent
from django.conf import settings
from django.db import DatabaseError
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Group
from psycopg_pool import PoolTimeout

from config.api.errors import is_database_down
from jobs.models import Delivery
from jobs.notifications import deliveries, mail, recipients, webhooks
from jobs.notifications.connections import finish_lookup
from jobs.notifications.deliveries import ClaimedDelivery
from jobs.notifications.metrics import NOTICES
from jobs.notifications.outcomes import Outcome, Postponed, failed
from jobs.notifications.secrets import current_secrets
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
DATABASE_RETRY_SECONDS = 0.5
# For tries that are under way when the worker stops; each takes seconds at most.
STOP_SECONDS = 5.0

_OUTCOMES = {"delivered": "delivered", "given_up": "given_up", "pending": "retried", None: "lost"}


class Courier:
    """Delivers notices until it is stopped.

    Invariant: a delivery is tried only under a lease, and how the try went is written only while
    the lease is still this courier's. A try whose end was not written is made again, so receivers
    hear of each end at least once.
    """

    def __init__(self) -> None:
        self._stop = Event()
        self._woken = Event()
        self._claiming = BoundedSemaphore()
        self._tries = Group()
        self._trying: dict[uuid.UUID, ClaimedDelivery] = {}
        # Whether more may be due than there was room for.
        self._is_full = False

    def run(self) -> None:
        """Deliver until `stop`: every LOOK_SECONDS, and when woken."""
        while not self._stop.is_set():
            self._woken.clear()
            try:
                with self._claiming:
                    self._begin_due()
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("deliveries wait for the database: %s", error)
            # The outermost tick of the loop: it must go on whatever happens.
            except Exception:
                logger.exception("claiming due deliveries failed")
            finally:
                release_connections()
            self._woken.wait(LOOK_SECONDS)

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._woken.set()

    def stop(self) -> None:
        """Take no more deliveries; after STOP_SECONDS give back those that are under way."""
        self._stop.set()
        self._woken.set()
        with self._claiming:
            pass
        self._tries.join(timeout=STOP_SECONDS)
        broken_off = list(self._trying)
        self._tries.kill(timeout=1.0)
        if not broken_off:
            return
        try:
            deliveries.release(broken_off)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("%d deliveries wait for their lease's end: %s", len(broken_off), error)
        finally:
            release_connections()

    def _begin_due(self) -> None:
        for channel in deliveries.give_up():
            NOTICES.labels(channel=channel, outcome="given_up").inc()
        while not self._stop.is_set():
            room = settings.NOTICE_CONCURRENCY - len(self._trying)
            running = Counter(claimed.account_id for claimed in self._trying.values())
            most = max(running.values(), default=0)
            self._is_full = room <= 0 or most >= settings.NOTICE_ACCOUNT_CONCURRENCY
            if room <= 0:
                return
            claimed = deliveries.claim(count=room, running=running)
            if not claimed:
                return
            for each in claimed:
                self._trying[each.lease] = each
                self._tries.start(gevent.Greenlet(self._deliver, each))

    def _deliver(self, claimed: ClaimedDelivery) -> None:
        """Make one try and write down how it went."""
        try:
            started = time.monotonic()
            outcome = _try(claimed)
            if outcome is None:
                return
            if isinstance(outcome, Postponed):
                status = deliveries.postpone(claimed, seconds=outcome.seconds)
                ended = "postponed" if status == "pending" else _OUTCOMES[status]
                NOTICES.labels(channel=claimed.channel, outcome=ended).inc()
                return
            seconds = time.monotonic() - started
            status = _write(claimed, outcome, seconds)
            NOTICES.labels(channel=claimed.channel, outcome=_OUTCOMES[status]).inc()
            if not outcome.is_delivered:
                logger.info("evt_%s: %s, %s", claimed.id.hex, _OUTCOMES[status], outcome.error)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("evt_%s waits for its lease to expire: %s", claimed.id.hex, error)
        finally:
            release_connections()
            # Written down by now; but what its name server still holds is the account's own.
            finish_lookup()
            self._trying.pop(claimed.lease, None)
            if self._is_full:
                self._woken.set()


def _try(claimed: ClaimedDelivery) -> Outcome | Postponed | None:
    """Make one try; None if the delivery was removed. Raises only what the database does."""
    try:
        delivery = deliveries.load(claimed)
        if delivery is None:
            return None
        if delivery.channel == Delivery.Channel.EMAIL:
            if not recipients.may_still_be_sent(delivery):
                return failed("e-mail to this address is not allowed", is_permanent=True)
            if seconds := recipients.wait_seconds(delivery):
                return Postponed(seconds)
            email = mail.make_message(delivery)
            release_connections()
            return mail.send(email)
        secrets = current_secrets(delivery.account_id)
        webhook = webhooks.make_message(delivery, secrets=secrets)
        # The receiver may take seconds, and others need the connection.
        release_connections()
        return webhooks.send(webhook)
    except (DatabaseError, PoolTimeout):
        raise
    # A fault of ours in one notice, such as a template's, must not be tried without a pause.
    except Exception as error:
        logger.exception("evt_%s could not be sent", claimed.id.hex)
        return failed(f"internal error: {type(error).__name__}")


def _write(claimed: ClaimedDelivery, outcome: Outcome, duration_seconds: float) -> str | None:
    """Write down how a try went, waiting for a database that is away until the lease's end."""
    lease_seconds = deliveries.lease_seconds(claimed.channel)
    until = time.monotonic() + lease_seconds - duration_seconds
    while True:
        try:
            return deliveries.finish(claimed, outcome, duration_seconds=duration_seconds)
        except (DatabaseError, PoolTimeout) as error:
            if not is_database_down(error) or time.monotonic() > until:
                raise
        finally:
            release_connections()
        gevent.sleep(DATABASE_RETRY_SECONDS)
