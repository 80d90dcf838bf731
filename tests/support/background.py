"""Stop the threads that tests before have started."""

from __future__ import annotations

from config.background import BackgroundThread


def stop_background_threads() -> None:
    """End every thread of this process, such as that of the limits, before its next tick.

    A test of one server's connections would share them with these.
    """
    # The garbage collector would not list those of modules: the test run freezes what it imports.
    for instance in BackgroundThread.instances:
        if isinstance(instance, BackgroundThread):
            instance.reset()
