"""Send the deliveries that are due, in a worker process under gevent."""

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
from jobs.notifications.metrics import ATTEMPTS
from jobs.notifications.outcomes import Outcome, Postponement, failed
from jobs.notifications.secrets import current_secrets
from scaling.connections import release_connections

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
DATABASE_RETRY_SECONDS = 0.5
# For attempts that are under way when the worker stops; each takes seconds at most.
STOP_SECONDS = 5.0

_OUTCOMES = {"delivered": "delivered", "given_up": "given_up", "pending": "retried", None: "lost"}


class Dispatcher:
    """Sends the deliveries that are due until it is stopped.

    Invariant: a delivery is attempted only under a lease, and the attempt's outcome is written only
    while this dispatcher still holds that lease. An attempt whose outcome was not written is
    repeated, so receivers get each notification at least once.
    """

    def __init__(self) -> None:
        self._stop = Event()
        self._woken = Event()
        self._claiming = BoundedSemaphore()
        self._attempts = Group()
        self._under_way: dict[uuid.UUID, ClaimedDelivery] = {}
        # Whether more may be due than there was room for.
        self._is_full = False

    def run(self) -> None:
        """Deliver until `stop`: every POLL_SECONDS, and when woken."""
        while not self._stop.is_set():
            self._woken.clear()
            try:
                with self._claiming:
                    self._start_due()
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("deliveries wait for the database: %s", error)
            # The outermost tick of the loop: it must go on after any error.
            except Exception:
                logger.exception("claiming due deliveries failed")
            finally:
                release_connections()
            self._woken.wait(POLL_SECONDS)

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._woken.set()

    def stop(self) -> None:
        """Claim no more deliveries; after STOP_SECONDS release those that are under way."""
        self._stop.set()
        self._woken.set()
        with self._claiming:
            pass
        self._attempts.join(timeout=STOP_SECONDS)
        interrupted = list(self._under_way)
        self._attempts.kill(timeout=1.0)
        if not interrupted:
            return
        try:
            deliveries.release(interrupted)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning(
                "%d deliveries wait for their leases to expire: %s", len(interrupted), error
            )
        finally:
            release_connections()

    def _start_due(self) -> None:
        for channel in deliveries.give_up():
            ATTEMPTS.labels(channel=channel, outcome="given_up").inc()
        while not self._stop.is_set():
            room = settings.NOTIFICATION_CONCURRENCY - len(self._under_way)
            running = Counter(claimed.account_id for claimed in self._under_way.values())
            most = max(running.values(), default=0)
            self._is_full = room <= 0 or most >= settings.NOTIFICATION_ACCOUNT_CONCURRENCY
            if room <= 0:
                return
            claimed = deliveries.claim(count=room, running=running)
            if not claimed:
                return
            for each in claimed:
                self._under_way[each.lease] = each
                self._attempts.start(gevent.Greenlet(self._deliver, each))

    def _deliver(self, claimed: ClaimedDelivery) -> None:
        """Make one attempt and write its outcome."""
        try:
            started = time.monotonic()
            outcome = _attempt(claimed)
            if outcome is None:
                return
            if isinstance(outcome, Postponement):
                status = deliveries.postpone(claimed, seconds=outcome.seconds)
                ended = "postponed" if status == "pending" else _OUTCOMES[status]
                ATTEMPTS.labels(channel=claimed.channel, outcome=ended).inc()
                return
            seconds = time.monotonic() - started
            status = _write(claimed, outcome, seconds)
            ATTEMPTS.labels(channel=claimed.channel, outcome=_OUTCOMES[status]).inc()
            if not outcome.is_delivered:
                logger.info("evt_%s: %s, %s", claimed.id.hex, _OUTCOMES[status], outcome.error)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("evt_%s waits for its lease to expire: %s", claimed.id.hex, error)
        finally:
            release_connections()
            # The outcome is written; a lookup that hangs takes one of the account's own slots.
            finish_lookup()
            self._under_way.pop(claimed.lease, None)
            if self._is_full:
                self._woken.set()


def _attempt(claimed: ClaimedDelivery) -> Outcome | Postponement | None:
    """Make one attempt; None if the delivery was removed. Raises only the database's errors."""
    try:
        delivery = deliveries.load(claimed)
        if delivery is None:
            return None
        if delivery.channel == Delivery.Channel.EMAIL:
            if not recipients.may_still_be_sent(delivery):
                return failed("e-mail to this address is not allowed", is_permanent=True)
            if seconds := recipients.wait_seconds(delivery):
                return Postponement(seconds)
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
    # A fault of ours in one delivery, such as a template's, must not be attempted without a pause.
    except Exception as error:
        logger.exception("evt_%s could not be sent", claimed.id.hex)
        return failed(f"internal error: {type(error).__name__}")


def _write(claimed: ClaimedDelivery, outcome: Outcome, duration_seconds: float) -> str | None:
    """Write an attempt's outcome; waits for an unavailable database until the lease expires."""
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
