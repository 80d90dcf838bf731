"""What is logged, and how a line looks."""

from typing import Any


def logging_config(level: str) -> dict[str, Any]:
    """Return Django's LOGGING, all of it on standard error from this level on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s"},
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
