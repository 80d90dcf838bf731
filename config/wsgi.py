"""The WSGI application that gunicorn's nodes serve."""

import os

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries

from node.pipeline import build
from node.utf8_request import Utf8Request
from scaling.connections import release_connections
from scaling.replicas import watcher

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured(
        "set SECRET_KEY or SECRET_KEY_FILE to one long random value, the same on every node"
    )

django_application = get_wsgi_application()
django_application.request_class = Utf8Request


def end_request(**_: object) -> None:
    """Release the request's connections."""
    release_connections()


# Django would look at each server four times a request, for what is nearly never there.
request_started.disconnect(close_old_connections)
request_finished.disconnect(close_old_connections)
request_finished.connect(end_request)
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
watcher.start()
new_edge = None
if settings.CACHE_ENABLED:
    # It needs the apps, which Django has loaded by now.
    from chat.caching.edge import EdgeCache

    new_edge = EdgeCache
application = build(django_application, new_edge=new_edge)
