"""A worker process: `python -m jobs.worker`.

It finds jobs in PostgreSQL, sooner when the broker wakes it, runs them as greenlets, renews its
lease, reaps, and sends deliveries. SIGTERM drains it: no new jobs, JOB_GRACE_SECONDS for those that
run, and jobs that are not done by then are released at once.
"""

# Before anything else is imported that could hold on to a blocking function.
from gevent import monkey

monkey.patch_all()

import contextlib
import gc
import logging
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable

import django
import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

import dramatiq
from django.conf import settings
from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from chat.chains import catalog
from config.brokers import get_broker
from jobs.documents.sweep import Sweep
from jobs.models import Job
from jobs.notifications.dispatcher import Dispatcher
from jobs.queue.messages import send
from jobs.queue.reaper import Reaper, requeue_lost
from jobs.worker import registration
from jobs.worker.pages import pages
from jobs.worker.slots import SLOTS
from jobs.worker.tasks import declare_actor
from jobs.worker.watchdog import Watchdog
from node import fair_sockets, loop_guard, resolver
from node.memory import MEMORY, bound_allocator
from node.open_files import raise_open_files_limit
from scaling.connections import release_connections
from scaling.replicas import watcher
from scaling.replicas.backend.pools import drain_pools

logger = logging.getLogger("jobs.worker")

POLL_SECONDS = 0.05
MEMORY_POLL_SECONDS = 1.0
# They only start slots; more would take messages from other workers while this one is full.
MESSAGE_THREADS = 4
# They check this often whether they are to stop.
THREAD_TIMEOUT_MS = 1000
STOP_CONSUMERS_SECONDS = 5.0
# The last messages of a worker that stops only save others up to JOB_POLL_SECONDS.
LAST_MESSAGES_SECONDS = 2.0
# A day's directory of originals each time, once after the day.
SWEEP_SECONDS = 60.0
# Workers that were started together would otherwise poll together.
POLL_JITTER = 0.25


class WorkerProcess:
    """Runs up to JOB_CONCURRENCY jobs, and the heartbeat, reaper, poll and delivery loops."""

    def __init__(self) -> None:
        self.stop = Event()
        self.is_ready = False
        self._reaper = Reaper()
        self._dispatcher = Dispatcher()
        self._server: WSGIServer | None = None
        self._orphans: set[uuid.UUID] = set()

    def run(self) -> None:
        """Run until a signal."""
        os.nice(settings.WORKER_NICE)
        fair_sockets.install()
        bound_allocator()
        raise_open_files_limit()
        resolver.install(timeout_seconds=settings.DNS_TIMEOUT_SECONDS)
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self.stop.set)
        self._server = WSGIServer(_address(settings.WORKER_BIND), pages(self), log=None)
        self._server.start()
        if not self._register():
            return
        # Building chains takes seconds of imports, which would look like a blocked loop.
        catalog.warm_up()
        # Loaded modules stay, so that collections need not walk them: a full one takes 0.1 s.
        gc.collect()
        gc.freeze()
        MEMORY.begin(drain_pools)
        loop_guard.start()
        Watchdog(SLOTS).start()
        watcher.start()
        declare_actor()
        dramatiq_worker = dramatiq.Worker(
            get_broker(),
            worker_threads=MESSAGE_THREADS,
            worker_timeout=THREAD_TIMEOUT_MS,
        )
        dramatiq_worker.start()
        heartbeat = gevent.spawn(self._every, settings.JOB_HEARTBEAT_SECONDS, self._heartbeat)
        gevent.spawn(self._every, settings.JOB_HEARTBEAT_SECONDS, self._reap)
        gevent.spawn(self._every, SWEEP_SECONDS, Sweep().step, jitter=POLL_JITTER)
        gevent.spawn(self._every, MEMORY_POLL_SECONDS, self._trim)
        gevent.spawn(self._every, settings.JOB_POLL_SECONDS, SLOTS.poll, jitter=POLL_JITTER)
        gevent.spawn(self._dispatcher.run)
        SLOTS.on_delivery = self._dispatcher.wake
        self.is_ready = True
        logger.info("ready: %d slots", settings.JOB_CONCURRENCY)
        self.stop.wait()
        self.is_ready = False
        self._drain()
        heartbeat.kill()
        self._deregister(dramatiq_worker)

    def _register(self) -> bool:
        """Register, however long the database takes; False if a signal came first."""
        while not self.stop.is_set():
            try:
                worker = registration.register()
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("waiting for the database: %s", error)
                self.stop.wait(1.0)
                continue
            finally:
                release_connections()
            SLOTS.worker_id, SLOTS.worker_name = worker.pk, worker.name
            return True
        return False

    def _every(self, seconds: float, work: Callable[[], object], *, jitter: float = 0.0) -> None:
        """Call `work` for ever; `jitter` is the part of each pause that may be left out."""
        while True:
            try:
                work()
            except (DatabaseError, PoolTimeout) as error:
                logger.warning("%s: %s", work.__name__, error)
            # The outermost tick of the loop: it must go on after any error.
            except Exception:
                logger.exception("%s failed", work.__name__)
            finally:
                release_connections()
            gevent.sleep(seconds * random.uniform(1.0 - jitter, 1.0))  # noqa: S311

    def _heartbeat(self) -> None:
        assert SLOTS.worker_id is not None  # noqa: S101  (run registers first)
        is_good = False
        try:
            is_good = registration.heartbeat(SLOTS.worker_id, running=len(SLOTS.running))
        finally:
            self._reaper.record_heartbeat(is_good=is_good, now=time.monotonic())
        if not is_good:
            self._register_again()
            return
        # Jobs that are claimed from here on are not among the leases that are read now.
        running = dict(SLOTS.running)
        held = registration.held_leases(SLOTS.worker_id)
        for lease, attempt in running.items():
            if lease not in held:
                attempt.stop("lost")
            elif held[lease]:
                attempt.stop("cancelled")
        self._requeue_orphans(held.keys() - SLOTS.leases())

    def _requeue_orphans(self, orphans: set[uuid.UUID]) -> None:
        """Requeue jobs under this worker's leases that it does not run.

        The result of a claim may be lost on its way, or an end could not be written. Only jobs that
        were orphans at the last heartbeat too: a claim may be under way now.
        """
        lost, self._orphans = orphans & self._orphans, orphans
        for job in Job.objects.filter(lease__in=lost):
            logger.error("job %s: no slot runs it; requeueing it", job.pk.hex)
            requeue_lost(job)

    def _register_again(self) -> None:
        """Register as another worker, after a reaper declared this one dead."""
        logger.warning("the lease was lost: this process was frozen or cut off; registering again")
        SLOTS.stop_all("lost")
        worker = registration.register()
        SLOTS.worker_id = worker.pk

    def _reap(self) -> None:
        if (done := self._reaper.tick(now=time.monotonic())) and any(vars(done).values()):
            # Lost jobs are worth a line; that waiting ones became due is not.
            logger.log(logging.INFO if done.lost else logging.DEBUG, "reaper: %s", done)
            # Other workers find the jobs that are more than this one runs.
            SLOTS.poll()

    def _trim(self) -> None:
        MEMORY.tick(time.monotonic())

    def _drain(self) -> None:
        logger.info("draining: %d jobs run", len(SLOTS.running))
        SLOTS.is_draining = True
        assert SLOTS.worker_id is not None  # noqa: S101  (run registers first)
        try:
            registration.drain(SLOTS.worker_id)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("the drain of this worker was not recorded: %s", error)
        finally:
            release_connections()
        deadline = time.monotonic() + settings.JOB_GRACE_SECONDS
        while SLOTS.running and time.monotonic() < deadline:
            gevent.sleep(POLL_SECONDS)
        released = len(SLOTS.running)
        SLOTS.stop_all("released")
        deadline = time.monotonic() + STOP_CONSUMERS_SECONDS
        while SLOTS.running and time.monotonic() < deadline:
            gevent.sleep(POLL_SECONDS)
        # Other workers are woken for the released jobs, and for messages that came while draining.
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(LAST_MESSAGES_SECONDS):
            for _ in range(min(released + SLOTS.unused_messages, settings.JOB_CONCURRENCY)):
                if not send(""):
                    break
        logger.info("drained: %d jobs requeued", released)

    def _deregister(self, dramatiq_worker: dramatiq.Worker) -> None:
        self._dispatcher.stop()
        try:
            if SLOTS.worker_id is not None and not SLOTS.running:
                registration.deregister(SLOTS.worker_id)
        except (DatabaseError, PoolTimeout) as error:
            logger.warning("the end of this worker was not recorded: %s", error)
        finally:
            release_connections()
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(STOP_CONSUMERS_SECONDS):
            dramatiq_worker.stop(timeout=int(STOP_CONSUMERS_SECONDS * 1000))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    # The secrets of webhooks are made from it.
    if not settings.HAS_SECRET_KEY:
        sys.exit("Error: set SECRET_KEY or SECRET_KEY_FILE to the value that the nodes have")
    WorkerProcess().run()
    # Threads of brokers' clients must not delay the exit.
    os._exit(0)
