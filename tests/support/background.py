"""Stop the threads that tests before have started."""

from __future__ import annotations

import gc

from config.background import BackgroundThread


def stop_background_threads() -> None:
    """End every thread of this process, such as that of the limits, before its next tick.

    A test of one server's connections would share them with these.
    """
    for thread in [one for one in gc.get_objects() if isinstance(one, BackgroundThread)]:
        thread.reset()
