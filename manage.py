#!/usr/bin/env python
"""Run Headrace's commands: `manage.py help` lists them."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError


def main() -> None:
    """Run a command; a bad setting or an absent database is one sentence and exit code 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Error: {error}")
    except OperationalError as error:
        # A pool that finds no server raises its own exception, which Django chains to this one.
        sys.exit(f"Error: PostgreSQL does not answer ({error}); is the stack running?")


if __name__ == "__main__":
    main()
