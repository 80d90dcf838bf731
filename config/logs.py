"""What is logged, and how a line looks."""

import copy
import logging
import traceback
from types import TracebackType
from typing import Any

from django.db import Error, InterfaceError, OperationalError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """Formats an exception as its classes and its stack, without its texts.

    A text may quote anything: the message that a chain could not read, a model's answer that a
    parser refused, a row of the database. Only those of the system's own errors are shown. Of a
    message's arguments the database's errors alone are formatted so: Headrace's own quote nothing.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        if isinstance(record.args, tuple) and any(isinstance(a, Error) for a in record.args):
            record = copy.copy(record)
            record.args = tuple(_name(a) if isinstance(a, Error) else a for a in record.args or ())
        return super().format(record)

    def formatException(self, ei: ExcInfo) -> str:
        """Return the stacks of an exception and of its causes, the first cause first."""
        blocks: list[str] = []
        error = ei[1]
        while error is not None and len(blocks) < 10:
            stack = "".join(traceback.format_tb(error.__traceback__))
            blocks.append(f"Traceback (most recent call last):\n{stack}{_name(error)}")
            is_hidden = error.__cause__ is None and error.__suppress_context__
            error = error.__cause__ or (None if is_hidden else error.__context__)
        return "\n\n".join(reversed(blocks))


def _name(error: BaseException) -> str:
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    is_own = isinstance(error, OSError) and kind.__module__ == "builtins"
    if is_own or isinstance(error, OperationalError | InterfaceError):
        return f"{name}: {error}"
    return name


def logging_config(level: str, *, shows_error_texts: bool = False) -> dict[str, Any]:
    """Return Django's LOGGING, all of it on standard error from this level on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                **({} if shows_error_texts else {"class": "config.logs.LineFormatter"}),
                "format": "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s",
            },
        },
        "filters": {
            "request_id": {"()": "node.middleware.RequestIdFilter"},
            "drained": {"()": "node.middleware.DrainedFilter"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["request_id"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # A client's mistake is the client's to see; only our own faults are logged.
            "django.request": {"level": "ERROR", "filters": ["drained"]},
            # Every failed attempt to connect is a line; requests and health checks report it too.
            "psycopg.pool": {"level": "ERROR"},
            # httpx names every provider URL at INFO; a URL may hold a secret.
            "httpx": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
        },
    }
