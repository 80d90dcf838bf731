"""The WSGI application that gunicorn's nodes serve."""

import gc
import os

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.utils.module_loading import import_string

if not settings.HAS_SECRET_KEY:
    raise ImproperlyConfigured(
        "set SECRET_KEY or SECRET_KEY_FILE to one long random value, the same on every node"
    )

application = get_wsgi_application()

for path in settings.WARM_UP:
    import_string(path)()

# What is there now stays for the process's life. Left to the garbage collector, a full collection
# walks all of it again and again: 5% of a chat request's time, and in one pause.
gc.collect()
gc.freeze()
