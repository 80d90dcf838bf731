"""Headrace's settings: environment variables, each with a row in docs/reference/settings.md."""

import secrets
from functools import partial
from pathlib import Path
from typing import Any

import django_stubs_ext

from config.api.framework import REST_FRAMEWORK, SPECTACULAR_SETTINGS
from config.cache_urls import is_memcached, redis_cache, redis_url
from config.components import AUTH_PASSWORD_VALIDATORS, INSTALLED_APPS, MIDDLEWARE, TEMPLATES
from config.content_security import content_security_policy
from config.database import read_databases
from config.env import (
    BASE_DIR,
    STATE_DIR,
    env_bool,
    env_choice,
    env_float,
    env_int,
    env_list,
    env_secret,
    env_str,
    parse_map,
    refuse_renamed,
    secret_file,
)
from config.logs import logging_config
from config.renamed import RENAMED

__all__ = [
    "AUTH_PASSWORD_VALIDATORS",
    "BASE_DIR",
    "INSTALLED_APPS",
    "MIDDLEWARE",
    "REST_FRAMEWORK",
    "SPECTACULAR_SETTINGS",
    "STATE_DIR",
    "TEMPLATES",
]

refuse_renamed(RENAMED)

# Lets Django's generic classes be written with their types, as in ModelAdmin[Chain].
django_stubs_ext.monkeypatch()

# --- The site -----------------------------------------------------------------------------------
DEBUG = env_bool("DEBUG", False)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])
# Without a key the commands still run; config/wsgi.py refuses to serve, because nodes with
# different keys would not know each other's sessions.
HAS_SECRET_KEY = bool(env_secret("SECRET_KEY"))
SECRET_KEY = env_secret("SECRET_KEY") or secrets.token_urlsafe(50)
SECRET_KEY_FALLBACKS = [k for k in env_secret("SECRET_KEY_FALLBACKS").split(",") if k]

# Longest wait for the address of a name; node/resolver.py.
DNS_TIMEOUT_SECONDS = env_float("DNS_TIMEOUT_SECONDS", 5.0, minimum=0.1)

# TLS ends at the load balancer, which says so in a header that it always sets itself.
HTTPS = env_bool("HTTPS", False)
# gunicorn reads the same: whose word on the client's address is believed.
FORWARDED_ALLOW_IPS = env_list("FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"])
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = HTTPS
# Health checks and scrapes reach a node directly, without TLS.
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_HSTS_SECONDS = env_int("HSTS_SECONDS", 31_536_000) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_AGE = int(env_float("SESSION_HOURS", 12.0, minimum=0.1) * 3600)
SESSION_COOKIE_SAMESITE = "Lax"
# Only forms send it back, and they have it in a field too.
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
# A cookie of messages would be the client's to read, and in logs of proxies.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# These look for Django's middleware by its own path; node.page_middleware derives from it.
SILENCED_SYSTEM_CHECKS = ["security.W002", "security.W003"]

# --- Django -------------------------------------------------------------------------------------
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
# Called once by each web process before it is ready, so that no request pays for imports.
WARM_UP = [
    "chat.chains.catalog.warm_up",
    "config.api.schema_pages.warm_up",
    "jobs.queue.messages.warm_up",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

# --- Staff's logins -----------------------------------------------------------------------------
PASSWORD_HASHERS = ["access.passwords.ThreadedPBKDF2Hasher"]
PASSWORD_CONCURRENCY = env_int("PASSWORD_CONCURRENCY", 1, minimum=1, maximum=8)
PASSWORD_WAIT_SECONDS = env_float("PASSWORD_WAIT_SECONDS", 5.0, minimum=0.1, maximum=60.0)
AUTHENTICATION_BACKENDS = ["access.logins.backend.LimitedBackend"]
LOGIN_FAILURES = env_int("LOGIN_FAILURES", 5)
LOGIN_ADDRESS_FAILURES = env_int("LOGIN_ADDRESS_FAILURES", 30)
LOGIN_USER_FAILURES = env_int("LOGIN_USER_FAILURES", 100)
LOGIN_WINDOW_SECONDS = env_int("LOGIN_WINDOW_SECONDS", 900, minimum=1, maximum=86_400)
LOGIN_KNOWN_DAYS = env_int("LOGIN_KNOWN_DAYS", 30, maximum=365)

STATIC_URL = env_str("STATIC_URL", "/static/")
STATIC_ROOT = Path(env_str("STATIC_ROOT", str(STATE_DIR / "static")))
CONTENT_SECURITY_POLICY = content_security_policy(STATIC_URL)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- PostgreSQL ---------------------------------------------------------------------------------
DATABASE_POOL: dict[str, Any] = {
    "min_size": env_int("DATABASE_POOL_MIN", 2, minimum=0),
    # 0: no pool, a connection for each request.
    "max_size": env_int("DATABASE_POOL_MAX", 16),
    "timeout": env_float("DATABASE_POOL_TIMEOUT_SECONDS", 5.0, minimum=0.1),
    "max_lifetime": env_float("DATABASE_POOL_LIFETIME_SECONDS", 3600.0, minimum=1.0),
    "max_idle": env_float("DATABASE_POOL_IDLE_SECONDS", 600.0, minimum=1.0),
}
# A read seldom holds a connection for long, and each replica has a pool in each process.
REPLICA_POOL: dict[str, Any] = {
    **DATABASE_POOL,
    "min_size": env_int("REPLICA_POOL_MIN", 1, minimum=0),
    "max_size": env_int("REPLICA_POOL_MAX", 8),
    # Another server takes a read that would wait longer.
    "timeout": env_float("REPLICA_POOL_TIMEOUT_SECONDS", 0.25, minimum=0.01),
}
DATABASE_OPTIONS = {
    "statement_timeout": str(int(env_float("DATABASE_STATEMENT_TIMEOUT_SECONDS", 30.0) * 1000)),
    "lock_timeout": str(int(env_float("DATABASE_LOCK_TIMEOUT_SECONDS", 10.0) * 1000)),
    # A process that is frozen inside a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": str(
        int(env_float("DATABASE_IDLE_TRANSACTION_SECONDS", 10.0) * 1000)
    ),
}
DATABASE_HOLD_WARN_SECONDS = env_float("DATABASE_HOLD_WARN_SECONDS", 1.0)
DATABASE_CONNECT_TIMEOUT_SECONDS = env_int("DATABASE_CONNECT_TIMEOUT_SECONDS", 5, minimum=1)
# The addresses may come from files, which are read again when they change.
READ_DATABASES = partial(
    read_databases,
    pool=DATABASE_POOL,
    replica_pool=REPLICA_POOL,
    options=DATABASE_OPTIONS,
    timeout=DATABASE_CONNECT_TIMEOUT_SECONDS,
)
DATABASES = READ_DATABASES()
DATABASE_ROUTERS = ["scaling.replicas.router.Router"]
DATABASE_FILES = [
    path for path in map(secret_file, ("DATABASE_URL", "DATABASE_REPLICA_URLS")) if path is not None
]
# A file of replicas may be empty now and not later.
HAS_REPLICAS = len(DATABASES) > 1 or secret_file("DATABASE_REPLICA_URLS") is not None
REPLICA_CHECK_SECONDS = env_float("REPLICA_CHECK_SECONDS", 0.25, minimum=0.05)
DATABASE_PROBE_SECONDS = env_float("DATABASE_PROBE_SECONDS", 5.0, minimum=0.1)
REPLICA_MAX_LAG_SECONDS = env_float("REPLICA_MAX_LAG_SECONDS", 10.0, minimum=0.1)
POSITION_SECONDS = env_float("POSITION_SECONDS", 60.0, minimum=1.0)

# --- Redis --------------------------------------------------------------------------------------
CACHE_URL = env_secret("CACHE_URL", "redis://127.0.0.1:6379/0")
REDIS_URL = redis_url(cache_url=CACHE_URL, redis_url=env_secret("REDIS_URL"))
REDIS_TIMEOUT_SECONDS = env_float("REDIS_TIMEOUT_SECONDS", 0.05, minimum=0.001)
REDIS_RETRY_SECONDS = env_float("REDIS_RETRY_SECONDS", 1.0, minimum=0.0)
CACHES = {"default": redis_cache("REDIS_URL", REDIS_URL, timeout_seconds=REDIS_TIMEOUT_SECONDS)}
# A Redis for answers alone may evict entries; the one with the limits may not.
if CACHE_URL != REDIS_URL and not is_memcached(CACHE_URL):
    CACHES["responses"] = redis_cache("CACHE_URL", CACHE_URL, timeout_seconds=REDIS_TIMEOUT_SECONDS)

# --- Cached answers -----------------------------------------------------------------------------
CACHE_ENABLED = env_bool("CACHE_ENABLED", True)
CACHE_WAIT_SECONDS = env_float("CACHE_WAIT_SECONDS", 30.0, minimum=0.0)
CACHE_MAX_ENTRY_BYTES = env_int("CACHE_MAX_ENTRY_BYTES", 1024 * 1024, minimum=1)
CACHE_EDGE_MAX_BODY_BYTES = env_int("CACHE_EDGE_MAX_BODY_BYTES", 256 * 1024)
READ_CACHE_SECONDS = env_int("READ_CACHE_SECONDS", 1, maximum=60)
CACHE_STREAM_EVENTS_PER_SECOND = env_float("CACHE_STREAM_EVENTS_PER_SECOND", 0.0)
CACHE_COMPRESS_BYTES = env_int("CACHE_COMPRESS_BYTES", 1024)
CACHE_NEAR_SECONDS = env_float("CACHE_NEAR_SECONDS", 5.0)
CACHE_NEAR_MAX_BYTES = env_int("CACHE_NEAR_MAX_BYTES", 64 * 1024 * 1024)
CACHE_NEAR_MAX_ENTRIES = env_int("CACHE_NEAR_MAX_ENTRIES", 50_000)

# --- The API ------------------------------------------------------------------------------------
MAX_BODY_BYTES = env_int("MAX_BODY_BYTES", 4 * 1024 * 1024, minimum=1024)
# These together with MAX_MEDIA_BYTES.
MAX_MEDIA_BODY_BYTES = env_int("MAX_MEDIA_BODY_BYTES", 20 * 1024 * 1024, minimum=1024)
BODY_TIMEOUT_SECONDS = env_float("BODY_TIMEOUT_SECONDS", 30.0, minimum=0.1)
# What is much deeper could not be written as JSON again.
MAX_JSON_DEPTH = env_int("MAX_JSON_DEPTH", 64, minimum=4, maximum=200)
MAX_JSON_ITEMS = env_int("MAX_JSON_ITEMS", 50_000, minimum=100)
MAX_JSON_MEMBERS = env_int("MAX_JSON_MEMBERS", 5000, minimum=100)
MAX_MESSAGES = env_int("MAX_MESSAGES", 1000, minimum=1)
MAX_CONTENT_PARTS = env_int("MAX_CONTENT_PARTS", 4000, minimum=1)
MAX_CONTENT_CHARS = env_int("MAX_CONTENT_CHARS", 1_000_000, minimum=1)
MAX_MEDIA_PARTS = env_int("MAX_MEDIA_PARTS", 50)
MAX_MEDIA_BYTES = env_int("MAX_MEDIA_BYTES", 16 * 1024 * 1024)
MAX_LIST_BYTES = env_int("MAX_LIST_BYTES", 1024 * 1024, minimum=1)
MAX_BATCH_INPUTS = env_int("MAX_BATCH_INPUTS", 100, minimum=1)
BATCH_CONCURRENCY = env_int("BATCH_CONCURRENCY", 8, minimum=1)
# Load balancers in front cut off a stream that is silent for 60 seconds.
STREAM_HEARTBEAT_SECONDS = env_float("STREAM_HEARTBEAT_SECONDS", 10.0, minimum=0.1, maximum=45.0)
# Half of what HAProxy sends a node at a time.
MAX_REQUESTS_PER_ACCOUNT = env_int("MAX_REQUESTS_PER_ACCOUNT", 900)
MAX_REQUEST_BYTES_PER_ACCOUNT = env_int("MAX_REQUEST_BYTES_PER_ACCOUNT", 64 * 1024 * 1024)
MAX_REQUEST_BYTES_PER_NODE = env_int("MAX_REQUEST_BYTES_PER_NODE", 128 * 1024 * 1024)
# A node's are below WEB_CONNECTIONS, so that streams leave connections to everything else, and no
# account holds more than half of them.
MAX_STREAMS_PER_KEY = env_int("MAX_STREAMS_PER_KEY", 800)
MAX_STREAMS_PER_ACCOUNT = env_int("MAX_STREAMS_PER_ACCOUNT", 800)
MAX_STREAMS_PER_NODE = env_int("MAX_STREAMS_PER_NODE", 1600)
# Django's own limit guards the admin's forms; the API's parser has MAX_BODY_BYTES.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# --- Access -------------------------------------------------------------------------------------
KEY_CACHE_SECONDS = env_float("KEY_CACHE_SECONDS", 1.0, minimum=0.0, maximum=60.0)
LIMIT_SYNC_SECONDS = env_float("LIMIT_SYNC_SECONDS", 0.1, minimum=0.01, maximum=5.0)
DEFAULT_REQUESTS_PER_MINUTE = env_int("DEFAULT_REQUESTS_PER_MINUTE", 0)
DEFAULT_TOKENS_PER_DAY = env_int("DEFAULT_TOKENS_PER_DAY", 0)
DEFAULT_MAX_CONCURRENT = env_int("DEFAULT_MAX_CONCURRENT", 0)

# --- Chains -------------------------------------------------------------------------------------
BUILT_IN_RUNNABLES = {
    "assistant": "chat.chains.assistant.build",
    "summarize": "chat.chains.summarize.build",
}
CHAIN_RUNNABLES = {**BUILT_IN_RUNNABLES, **parse_map("CHAIN_RUNNABLES", env_str("CHAIN_RUNNABLES"))}
CHAIN_CACHE_SECONDS = env_float("CHAIN_CACHE_SECONDS", 1.0, minimum=0.0, maximum=60.0)
LLM_MODEL = env_str("LLM_MODEL", "openai:gpt-5-mini")
LLM_BASE_URL = env_str("LLM_BASE_URL", "")
LLM_API_KEY = env_secret("LLM_API_KEY")
LLM_API_KEYS = parse_map("LLM_API_KEYS", env_secret("LLM_API_KEYS"))
PROVIDER_CONNECT_SECONDS = env_float("PROVIDER_CONNECT_SECONDS", 5.0, minimum=0.1)
PROVIDER_FIRST_TOKEN_SECONDS = env_float("PROVIDER_FIRST_TOKEN_SECONDS", 60.0, minimum=0.1)
PROVIDER_SILENCE_SECONDS = env_float("PROVIDER_SILENCE_SECONDS", 60.0, minimum=0.1)
PROVIDER_MAX_CONNECTIONS = env_int("PROVIDER_MAX_CONNECTIONS", 2048, minimum=1)
PROVIDER_KEEPALIVE_SECONDS = env_float("PROVIDER_KEEPALIVE_SECONDS", 30.0)
PROVIDER_CONNECTION_MAX_AGE_SECONDS = env_float("PROVIDER_CONNECTION_MAX_AGE_SECONDS", 300.0)
PROVIDER_CA_BUNDLE = env_str("PROVIDER_CA_BUNDLE")
PROVIDER_PROXY_URL = env_secret("PROVIDER_PROXY_URL")
PROVIDER_MAX_RETRIES = env_int("PROVIDER_MAX_RETRIES", 2, maximum=10)
PROVIDER_RETRY_BASE_SECONDS = env_float("PROVIDER_RETRY_BASE_SECONDS", 0.5)
PROVIDER_RETRY_MAX_SECONDS = env_float("PROVIDER_RETRY_MAX_SECONDS", 8.0)
PROVIDER_MAX_RESPONSE_BYTES = env_int("PROVIDER_MAX_RESPONSE_BYTES", 16 * 1024 * 1024, minimum=1024)
PROVIDER_MAX_STREAM_BYTES = env_int("PROVIDER_MAX_STREAM_BYTES", 256 * 1024 * 1024, minimum=1024)

SUMMARIZE_PART_CHARS = env_int("SUMMARIZE_PART_CHARS", 6000, minimum=200)
SUMMARIZE_CONCURRENCY = env_int("SUMMARIZE_CONCURRENCY", 4, minimum=1)

# --- Jobs ---------------------------------------------------------------------------------------
BROKER_URL = env_secret("BROKER_URL", "redis://127.0.0.1:6379/1")
BROKER_TIMEOUT_SECONDS = env_float("BROKER_TIMEOUT_SECONDS", 2.0, minimum=0.1)
BROKER_POLL_SECONDS = env_float("BROKER_POLL_SECONDS", 0.025, minimum=0.005)
# How soon a job starts without a broker; idle workers cost one small query each in that time.
JOB_POLL_SECONDS = env_float("JOB_POLL_SECONDS", 1.0, minimum=0.05, maximum=60.0)
JOB_CONCURRENCY = env_int("JOB_CONCURRENCY", 256, minimum=1)
JOB_WORKER_INPUT_BYTES = env_int("JOB_WORKER_INPUT_BYTES", 64 * 1024 * 1024, minimum=1024)
JOB_ACCOUNT_CONCURRENCY = env_int("JOB_ACCOUNT_CONCURRENCY", 0)
JOB_QUEUE_MAX = env_int("JOB_QUEUE_MAX", 100_000, minimum=1)
JOB_ACCOUNT_QUEUE_MAX = env_int("JOB_ACCOUNT_QUEUE_MAX", 50_000, minimum=1)
JOB_ACCOUNT_MAX = env_int("JOB_ACCOUNT_MAX", 10_000_000)
JOB_TIMEOUT_SECONDS = env_int("JOB_TIMEOUT_SECONDS", 1800, minimum=1)
JOB_MAX_TIMEOUT_SECONDS = env_int("JOB_MAX_TIMEOUT_SECONDS", 86_400, minimum=1)
JOB_MAX_ATTEMPTS = env_int("JOB_MAX_ATTEMPTS", 3, minimum=1, maximum=20)
JOB_RETRY_BASE_SECONDS = env_float("JOB_RETRY_BASE_SECONDS", 5.0)
JOB_RETRY_MAX_SECONDS = env_float("JOB_RETRY_MAX_SECONDS", 300.0)
JOB_TOKENS_WAIT_HOURS = env_float("JOB_TOKENS_WAIT_HOURS", 72.0)
JOB_HEARTBEAT_SECONDS = env_float("JOB_HEARTBEAT_SECONDS", 1.0, minimum=0.1)
JOB_LEASE_SECONDS = env_float("JOB_LEASE_SECONDS", 15.0, minimum=1.0)
JOB_STALL_SECONDS = env_float("JOB_STALL_SECONDS", 5.0, minimum=0.5)
JOB_GRACE_SECONDS = env_float("JOB_GRACE_SECONDS", 20.0)
JOB_EVENT_FLUSH_SECONDS = env_float("JOB_EVENT_FLUSH_SECONDS", 0.2, minimum=0.01)
JOB_EVENT_POLL_SECONDS = env_float("JOB_EVENT_POLL_SECONDS", 0.2, minimum=0.01)
JOB_EVENT_BATCH_BYTES = env_int("JOB_EVENT_BATCH_BYTES", 64 * 1024, minimum=1)
JOB_MAX_OUTPUT_BYTES = env_int("JOB_MAX_OUTPUT_BYTES", 4 * 1024 * 1024, minimum=1024)
JOB_RETENTION_DAYS = env_int("JOB_RETENTION_DAYS", 30, minimum=1)
WEBHOOK_GIVE_UP_HOURS = env_float("WEBHOOK_GIVE_UP_HOURS", 24.0)
WEBHOOK_ALLOW_PRIVATE = env_bool("WEBHOOK_ALLOW_PRIVATE", False)
WEBHOOK_TIMEOUT_SECONDS = env_float("WEBHOOK_TIMEOUT_SECONDS", 10.0, minimum=0.1)
WEBHOOK_MAX_RESPONSE_BYTES = env_int("WEBHOOK_MAX_RESPONSE_BYTES", 65_536)
WEBHOOK_RETRY_BASE_SECONDS = env_float("WEBHOOK_RETRY_BASE_SECONDS", 5.0)
WEBHOOK_RETRY_MAX_SECONDS = env_float("WEBHOOK_RETRY_MAX_SECONDS", 3600.0)
WEBHOOK_SECRET_OVERLAP_HOURS = env_float("WEBHOOK_SECRET_OVERLAP_HOURS", 24.0)
NOTIFICATION_CONCURRENCY = env_int("NOTIFICATION_CONCURRENCY", 32, minimum=1)
NOTIFICATION_ACCOUNT_CONCURRENCY = env_int("NOTIFICATION_ACCOUNT_CONCURRENCY", 8, minimum=1)
IDEMPOTENCY_HOURS = env_int("IDEMPOTENCY_HOURS", 24, minimum=1)
IDEMPOTENCY_ACCOUNT_MAX_KEYS = env_int("IDEMPOTENCY_ACCOUNT_MAX_KEYS", 10_000_000)
WORKER_NAME = env_str("WORKER_NAME", "worker")
WORKER_NICE = env_int("WORKER_NICE", 5, maximum=19)
WORKER_BIND = env_str("WORKER_BIND", "127.0.0.1:8009")

# --- Documents ----------------------------------------------------------------------------------
JOB_MAX_FILE_BYTES = env_int("JOB_MAX_FILE_BYTES", 20 * 1024 * 1024, minimum=1024)
JOB_MAX_FILE_PAGES = env_int("JOB_MAX_FILE_PAGES", 2000, minimum=1)
JOB_FILE_PAGE_BYTES = env_int("JOB_FILE_PAGE_BYTES", 64, minimum=1)
JOB_FILE_CPU_SECONDS = env_float("JOB_FILE_CPU_SECONDS", 3.0, minimum=1.0)
JOB_FILE_CPU_SECONDS_PER_MIB = env_float("JOB_FILE_CPU_SECONDS_PER_MIB", 16.0, minimum=0.0)
JOB_FILE_TIMEOUT_SECONDS = env_float("JOB_FILE_TIMEOUT_SECONDS", 20.0, minimum=1.0)
JOB_FILE_PATIENCE_SECONDS = env_float("JOB_FILE_PATIENCE_SECONDS", 30.0, minimum=0.0)
# Less than 100 MiB are too few for Python and pypdf.
JOB_FILE_MEMORY_BYTES = env_int("JOB_FILE_MEMORY_BYTES", 192 * 1024 * 1024, minimum=104_857_600)
JOB_FILE_READERS = env_int("JOB_FILE_READERS", 2, minimum=1)
JOB_FILE_ACCOUNT_READERS = env_int("JOB_FILE_ACCOUNT_READERS", 1, minimum=1)
JOB_FILE_WAIT_SECONDS = env_float("JOB_FILE_WAIT_SECONDS", 20.0, minimum=0.0)
JOB_FILE_NICE = env_int("JOB_FILE_NICE", 5, maximum=19)
JOB_MAX_TEXT_CHARS = env_int("JOB_MAX_TEXT_CHARS", 5_000_000, minimum=1)
UPLOAD_CONCURRENCY = env_int("UPLOAD_CONCURRENCY", 64, minimum=1)
UPLOAD_ACCOUNT_CONCURRENCY = env_int("UPLOAD_ACCOUNT_CONCURRENCY", 8, minimum=1)
UPLOAD_BYTES = env_int("UPLOAD_BYTES", 128 * 1024 * 1024, minimum=1024)
# Two of the largest.
UPLOAD_ACCOUNT_BYTES = env_int("UPLOAD_ACCOUNT_BYTES", 42 * 1024 * 1024, minimum=1024)
JOB_ACCOUNT_FILE_BYTES = env_int("JOB_ACCOUNT_FILE_BYTES", 100 * 1024**3)
JOB_FILE_ORPHAN_HOURS = env_int("JOB_FILE_ORPHAN_HOURS", 24)
MEDIA_ROOT = Path(env_str("MEDIA_ROOT", str(STATE_DIR / "media")))
# The form's other fields come on top of the file.
MAX_UPLOAD_BYTES = JOB_MAX_FILE_BYTES + 1024 * 1024
# Documents belong to the service alone; nothing serves them.
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700

# --- E-mail -------------------------------------------------------------------------------------
EMAIL_BACKEND = env_str("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
DEFAULT_FROM_EMAIL = env_str("DEFAULT_FROM_EMAIL", "headrace@localhost")
EMAIL_HOST = env_str("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25, minimum=1, maximum=65535)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_secret("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", False)
EMAIL_TIMEOUT = env_float("EMAIL_TIMEOUT", 10.0, minimum=0.1)
# Options of django-anymail's backends.
ANYMAIL = parse_map("ANYMAIL", env_secret("ANYMAIL"))
if EMAIL_BACKEND.startswith("anymail."):
    INSTALLED_APPS = [*INSTALLED_APPS, "anymail"]

# Addresses and domains that every account's jobs may send e-mail to; "*" allows all.
NOTIFY_EMAIL_ALLOWED = env_list("NOTIFY_EMAIL_ALLOWED", [])
NOTIFY_EMAIL_PER_ACCOUNT_HOUR = env_int("NOTIFY_EMAIL_PER_ACCOUNT_HOUR", 100, minimum=1)
NOTIFY_EMAIL_PER_ADDRESS_HOUR = env_int("NOTIFY_EMAIL_PER_ADDRESS_HOUR", 20, minimum=1)

# --- Overload -----------------------------------------------------------------------------------
OVERLOAD_DELAY_SECONDS = env_float("OVERLOAD_DELAY_SECONDS", 0.1)
# What is neither the API's nor a health check's.
PAGE_CONCURRENCY = env_int("PAGE_CONCURRENCY", 2, minimum=1)
PAGE_QUEUE = env_int("PAGE_QUEUE", 32)
PAGE_WAIT_SECONDS = env_float("PAGE_WAIT_SECONDS", 5.0, minimum=0.1)
PAGE_CPU_SHARE = env_float("PAGE_CPU_SHARE", 0.5, minimum=0.05, maximum=1.0)

# --- The event loop -----------------------------------------------------------------------------
EVENT_LOOP_STALL_SECONDS = env_float("EVENT_LOOP_STALL_SECONDS", 0.1)
EVENT_LOOP_STACK_SECONDS = env_float("EVENT_LOOP_STACK_SECONDS", 1.0 if DEBUG else 60.0)

# --- Conversations ------------------------------------------------------------------------------
CONVERSATION_BUSY = env_choice("CONVERSATION_BUSY", "reject", ("reject", "wait"))
CONVERSATION_WAIT_SECONDS = env_float("CONVERSATION_WAIT_SECONDS", 30.0)
CONVERSATION_LEASE_SECONDS = env_float("CONVERSATION_LEASE_SECONDS", 30.0, minimum=2.0)
CONVERSATION_ACCOUNT_MAX = env_int("CONVERSATION_ACCOUNT_MAX", 1_000_000)
CONVERSATION_MAX_MESSAGES = env_int("CONVERSATION_MAX_MESSAGES", 10_000)
CONVERSATION_HISTORY_MESSAGES = env_int("CONVERSATION_HISTORY_MESSAGES", 100, minimum=1)
CONVERSATION_HISTORY_BYTES = env_int("CONVERSATION_HISTORY_BYTES", 1024 * 1024, minimum=1)

# --- The embedded stack -------------------------------------------------------------------------
PORT = env_int("PORT", 8000, minimum=1, maximum=65535)
# Derived, so that two stacks need only differ in PORT and STATE_DIR.
STATS_PORT = env_int(
    "STATS_PORT", PORT + 404 if PORT <= 65131 else PORT - 404, minimum=1, maximum=65535
)
MAX_NODES = env_int("MAX_NODES", 32, minimum=1, maximum=32)
EMBEDDED_POSTGRES_BIN = env_str("EMBEDDED_POSTGRES_BIN")
EMBEDDED_POSTGRES_USER = env_str("EMBEDDED_POSTGRES_USER", "nobody")
EMBEDDED_SYNCHRONOUS_COMMIT = env_choice(
    "EMBEDDED_SYNCHRONOUS_COMMIT", "on", ("on", "remote_apply")
)
EMBEDDED_COPY_TIMEOUT_SECONDS = env_float("EMBEDDED_COPY_TIMEOUT_SECONDS", 600.0, minimum=1.0)
EMBEDDED_REDIS_SERVER = env_str("EMBEDDED_REDIS_SERVER")
EMBEDDED_HAPROXY = env_str("EMBEDDED_HAPROXY")
EMBEDDED_LLM_FILE = env_str("EMBEDDED_LLM_FILE")
EMBEDDED_LLM_SLOTS = env_int("EMBEDDED_LLM_SLOTS", 4, minimum=1)
EMBEDDED_LLM_THREADS = env_int("EMBEDDED_LLM_THREADS", 1, minimum=1)

# --- The autoscaler -----------------------------------------------------------------------------
AUTOSCALE_SECONDS = env_float("AUTOSCALE_SECONDS", 2.0, minimum=0.05, maximum=3600.0)
AUTOSCALE_LEASE_SECONDS = env_float("AUTOSCALE_LEASE_SECONDS", 15.0, minimum=1.0)
AUTOSCALE_POLICIES = env_str("AUTOSCALE_POLICIES")
AUTOSCALE_SOURCE = env_str("AUTOSCALE_SOURCE", "fleet.autoscale.sources.embedded.EmbeddedSource")
AUTOSCALE_ACTUATOR = env_str("AUTOSCALE_ACTUATOR", "fleet.autoscale.actuators.embedded.Embedded")
AUTOSCALE_HAPROXY_URL = env_str("AUTOSCALE_HAPROXY_URL", f"http://127.0.0.1:{STATS_PORT}")
AUTOSCALE_COMPOSE = env_str("AUTOSCALE_COMPOSE", "docker compose")
AUTOSCALE_BIND = env_str("AUTOSCALE_BIND")

# --- Logs ---------------------------------------------------------------------------------------
LOG_LEVEL = env_choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_ERROR_TEXTS = env_bool("LOG_ERROR_TEXTS", False)
LOGGING = logging_config(LOG_LEVEL, shows_error_texts=LOG_ERROR_TEXTS)
