"""Collect the static files when they have changed; collecting takes seconds, looking does not."""

import hashlib
import json
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

SIGNATURE_FILE = ".sources"


def collect_if_changed() -> bool:
    """Run `collectstatic` unless the sources are those of the last time; return whether it ran."""
    root = Path(settings.STATIC_ROOT)
    signature = _signature()
    signature_file = root / SIGNATURE_FILE
    if signature_file.exists() and signature_file.read_text(encoding="ascii") == signature:
        return False
    call_command("collectstatic", interactive=False, verbosity=0)
    signature_file.write_text(signature, encoding="ascii")
    return True


def _signature() -> str:
    """Return a digest of the name, size and time of every source."""
    sources = []
    for finder in get_finders():
        for path, storage in finder.list([]):
            found = Path(storage.path(path)).stat()
            sources.append((path, found.st_size, found.st_mtime_ns))
    text = json.dumps([settings.STORAGES["staticfiles"], sorted(sources)])
    return hashlib.sha256(text.encode()).hexdigest()
