"""Turn a libpq URL into one of Django's `DATABASES` entries."""

from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

# Names that Django's PostgreSQL backend wants outside OPTIONS; all else stays a libpq parameter.
DJANGO_NAMES = {
    "dbname": "NAME",
    "user": "USER",
    "password": "PASSWORD",
    "host": "HOST",
    "port": "PORT",
}


def database_from_url(
    name: str, url: str, *, pool: dict[str, Any], options: dict[str, str]
) -> dict[str, Any]:
    """Return a `DATABASES` entry for `postgresql://user:password@host:port/dbname?...`.

    libpq itself reads the URL, so several hosts, `sslmode` and `target_session_attrs` work.
    `name` is the setting to blame; `pool` goes to psycopg's pool; `options` are server settings
    (`-c name=value`) of every connection. Raises ImproperlyConfigured on a bad URL.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ImproperlyConfigured(f"{name} must start with postgresql://")
    try:
        params = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ImproperlyConfigured(f"{name} is not a PostgreSQL URL: {error}") from error
    entry: dict[str, Any] = {
        DJANGO_NAMES[k]: str(v) for k, v in params.items() if k in DJANGO_NAMES
    }
    libpq = {k: v for k, v in params.items() if k not in DJANGO_NAMES}
    libpq["options"] = " ".join(
        [str(libpq.get("options", "")), *(f"-c {key}={value}" for key, value in options.items())]
    ).strip()
    return {
        "ENGINE": "django.db.backends.postgresql",
        # The pool keeps connections; Django must give each back at the end of a request.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {**libpq, "pool": pool},
        **entry,
    }
