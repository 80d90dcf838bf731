"""`python -m tests.faults.soak`: what `make soak` runs."""

import importlib
import os
import sys
import tempfile

import django

if __name__ == "__main__":
    # The tests' own modules read Django's settings, those of no stack that runs here.
    with tempfile.TemporaryDirectory(prefix="headrace-soak-settings-") as directory:
        os.environ["STATE_DIR"] = directory
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        django.setup()
        sys.exit(importlib.import_module("tests.faults.soak.command").main())
