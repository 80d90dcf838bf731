"""A process that only sends deliveries, as a worker does; SIGTERM stops it.

`python -m tests.jobs.notifications.dispatcher_process`, with the settings in its environment;
POLL_SECONDS and STOP_SECONDS there are the dispatcher's own.
"""

# Before anything else is imported that could hold on to a blocking function.
# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import os
import signal

import django
import gevent
from gevent.event import Event

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from jobs.notifications import dispatcher

if __name__ == "__main__":
    dispatcher.POLL_SECONDS = float(os.environ["POLL_SECONDS"])
    dispatcher.STOP_SECONDS = float(os.environ["STOP_SECONDS"])
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    sender = dispatcher.Dispatcher()
    gevent.spawn(sender.run)
    print("ready", flush=True)  # noqa: T201
    stop.wait()
    sender.stop()
