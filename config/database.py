"""Turn libpq URLs into Django's `DATABASES`."""

import re
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from config.env import env_secret

# Names that Django's PostgreSQL backend wants outside OPTIONS; all else stays a libpq parameter.
DJANGO_NAMES = {
    "dbname": "NAME",
    "user": "USER",
    "password": "PASSWORD",
    "host": "HOST",
    "port": "PORT",
}
# A replica's name, before its URL.
NAMED = re.compile(r"([a-z][a-z0-9_-]{0,39})=(postgres(?:ql)?://.*)", re.DOTALL)
# Several URLs in one text; a comma within one URL separates hosts.
BETWEEN_URLS = re.compile(r"\s*[,\n]\s*(?=(?:[a-z][a-z0-9_-]{0,39}=)?postgres(?:ql)?://)")


def read_databases(
    *, pool: dict[str, Any], replica_pool: dict[str, Any], options: dict[str, str], timeout: int
) -> dict[str, dict[str, Any]]:
    """Return `DATABASES` from DATABASE_URL and DATABASE_REPLICA_URLS, or the files they name.

    `timeout` is how long a connection may take to be made, in seconds: libpq by itself waits for
    ever for a host that swallows packets. Raises ImproperlyConfigured.
    """
    url = env_secret("DATABASE_URL", "postgresql://headrace@127.0.0.1:5432/headrace")
    databases = {"default": database_from_url("DATABASE_URL", url, pool=pool, options=options)}
    for name, replica in named_urls(env_secret("DATABASE_REPLICA_URLS")).items():
        databases[name] = database_from_url(
            "DATABASE_REPLICA_URLS", replica, pool=replica_pool, options=options
        )
        # Tests have one database.
        databases[name]["TEST"] = {"MIRROR": "default"}
    for entry in databases.values():
        entry["OPTIONS"].setdefault("connect_timeout", timeout)
    return databases


def named_urls(text: str) -> dict[str, str]:
    """Return the replicas' URLs by name: `NAME=URL`, or replica1, replica2 and so on.

    Raises ImproperlyConfigured when two have one name, or one the primary's.
    """
    named: dict[str, str] = {}
    for number, item in enumerate(filter(None, BETWEEN_URLS.split(text.strip())), 1):
        found = NAMED.fullmatch(item.strip())
        name, url = (found[1], found[2]) if found else (f"replica{number}", item.strip())
        if name in named or name == "default":
            raise ImproperlyConfigured(f"DATABASE_REPLICA_URLS: {name} is taken")
        named[name] = url
    return named


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
        "ENGINE": "scaling.replicas.backend",
        # The pool holds the connections; Django must return each at the end of a request.
        "CONN_MAX_AGE": 0,
        # A cursor that outlives its transaction is lost behind a PgBouncer.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {**libpq, **({"pool": pool} if pool["max_size"] else {})},
        **entry,
    }
