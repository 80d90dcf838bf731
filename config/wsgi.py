"""The WSGI application that gunicorn's nodes serve."""

import os
from functools import partial
from typing import TYPE_CHECKING

import gevent
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries

from node.fast_path import EARLY
from node.gunicorn_response import OneWriteResponse
from node.load_shedding import OVERLOAD
from node.metrics import REQUEST_SECONDS
from node.page_slots import Pages, PageSlots
from node.request_bodies import RequestBodies
from node.shedding_layer import Admission
from node.utf8_request import Utf8Request
from scaling.connections import release_connections
from scaling.replicas import watcher

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured(
        "set SECRET_KEY or SECRET_KEY_FILE to one long random value, the same on every node"
    )

django_application = get_wsgi_application()
django_application.request_class = Utf8Request
application: "WSGIApplication" = django_application


def end_request(**_: object) -> None:
    """Give the request's connections back."""
    release_connections()


# Django would look at each server four times a request, for what is nearly never there.
request_started.disconnect(close_old_connections)
request_finished.disconnect(close_old_connections)
request_finished.connect(end_request)
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
OneWriteResponse.observe = REQUEST_SECONDS.observe
watcher.start()
new_slots = partial(
    PageSlots,
    concurrency=settings.PAGE_CONCURRENCY,
    queue=settings.PAGE_QUEUE,
    wait_seconds=settings.PAGE_WAIT_SECONDS,
    cpu_share=settings.PAGE_CPU_SHARE,
)
application = Pages(application, new_slots)
hit = None
if settings.CACHE_ENABLED:
    # It needs the apps, which are there once Django is.
    from chat.caching.edge import EdgeCache

    edge = EdgeCache(application)
    hit = edge.ask
    application = edge
application = RequestBodies(application)
EARLY.ask = hit
if settings.OVERLOAD_DELAY_SECONDS:
    OVERLOAD.target_seconds = settings.OVERLOAD_DELAY_SECONDS
    gevent.spawn(OVERLOAD.run)
    admission = Admission(application, OVERLOAD, hit)
    EARLY.ask = admission.ask
    application = admission
