"""Settings that have other names now.

An old name would be ignored otherwise, and with it the limit that it sets.
"""

# Old -> new.
RENAMED = {
    "PROXY_CLIENT_SECONDS": "PROXY_CLIENT_TIMEOUT, with its unit (30s)",
    "PROXY_RESPONSE_SECONDS": "PROXY_RESPONSE_TIMEOUT, with its unit (660s)",
    "NOTICE_CONCURRENCY": "NOTIFICATION_CONCURRENCY",
    "NOTICE_ACCOUNT_CONCURRENCY": "NOTIFICATION_ACCOUNT_CONCURRENCY",
    "WEBHOOK_MAX_ANSWER_BYTES": "WEBHOOK_MAX_RESPONSE_BYTES",
}
