"""Hash passwords in threads, so that the event loop goes on."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import gevent
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from gevent import monkey
from gevent.threadpool import ThreadPool

from access.errors import PasswordsBusy
from scaling.connections import release_connections

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_SECONDS = 5.0


class ThreadedPBKDF2Hasher(PBKDF2PasswordHasher):
    """Django's default hasher, its work done in a thread.

    A hash takes a fifth of a second by intent, in which an event loop would serve no request.
    OpenSSL works without Python's lock, so the loop runs at the same time. Invariant: a process
    computes at most PASSWORD_CONCURRENCY hashes at a time, for all callers together.
    """

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the encoded hash; raises PasswordsBusy if no thread was free in time.

        The connections of the caller are released, as a hash may wait for its thread.
        """
        work = functools.partial(super().encode, password, salt, iterations)
        # A command has no event loop that other requests wait for.
        if not monkey.is_module_patched("threading"):
            return work()
        release_connections()
        return in_thread(work)


def in_thread(work: Callable[[], str]) -> str:
    """Return `work()`, done in one of the process's few threads for it.

    Raises PasswordsBusy after PASSWORD_WAIT_SECONDS; work that has begun is then done in vain.
    """
    try:
        with gevent.Timeout(settings.PASSWORD_WAIT_SECONDS):
            result: str = _threads().apply(work)
            return result
    except gevent.Timeout:
        raise PasswordsBusy(retry_after_seconds=RETRY_SECONDS) from None


@functools.cache
def _threads() -> ThreadPool:
    """Return the threads; the hub's own are for name lookups."""
    return ThreadPool(settings.PASSWORD_CONCURRENCY)
