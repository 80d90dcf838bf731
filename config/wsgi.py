"""The WSGI application that gunicorn's nodes serve."""

import os

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings

from config.request_bodies import RequestBodies

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured(
        "set SECRET_KEY or SECRET_KEY_FILE to one long random value, the same on every node"
    )

application = RequestBodies(get_wsgi_application())
