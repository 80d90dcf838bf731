"""The WSGI application that gunicorn's nodes serve."""

import os
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

from config.gunicorn_parser import EARLY
from config.request_bodies import RequestBodies

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured(
        "set SECRET_KEY or SECRET_KEY_FILE to one long random value, the same on every node"
    )

application: "WSGIApplication" = get_wsgi_application()
if settings.CACHE_ENABLED:
    # It needs the apps, which are there once Django is.
    from chat.caching.edge import EdgeCache

    edge = EdgeCache(application)
    EARLY.ask = edge.ask
    application = edge
application = RequestBodies(application)
