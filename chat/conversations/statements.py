"""The statements of a turn: each does in one round trip what the models would do in several.

Every parameter has a cast, so that a long text is sent beside its statement
(scaling/replicas/backend/cursors.py). Each is a transaction of its own, unless one is open.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

# The conversation's row is locked while its messages are numbered. A statement that had to wait for
# the lock numbers by what it saw before, and then fails by the constraint on positions.
BEGIN = """
WITH newest AS (
    SELECT coalesce(max(position), 0) AS position
    FROM chat_message WHERE conversation_id = %(conversation)s::uuid
), taken AS (
    UPDATE chat_conversation AS conversation
    SET lease_token = %(token)s::uuid,
        lease_until = statement_timestamp() + make_interval(secs => %(lease_seconds)s::float)
    FROM newest
    WHERE conversation.id = %(conversation)s::uuid
      AND (lease_until IS NULL OR lease_until < statement_timestamp())
      AND (%(max_messages)s::int = 0 OR newest.position + 1 < %(max_messages)s::int)
    RETURNING newest.position + 1 AS position
)
INSERT INTO chat_message
    (id, conversation_id, position, role, status, content, error_code, created_at)
SELECT %(id)s::uuid, %(conversation)s::uuid, taken.position, %(role)s::text, %(status)s::text,
    %(content)s::text, '', %(created_at)s::timestamptz
FROM taken
RETURNING position
"""
# Why BEGIN took nothing: no row means that there is no conversation.
STATE = """
SELECT lease_until IS NULL OR lease_until < statement_timestamp()
FROM chat_conversation WHERE id = %(conversation)s::uuid
"""
# PostgreSQL has the size of a text in its row: it reads no text that is not sent.
HISTORY = """
SELECT role, content
FROM (
    SELECT position, role, content,
        sum(octet_length(content)) OVER (ORDER BY position DESC ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
        SELECT position, role, content FROM chat_message
        WHERE conversation_id = %(conversation)s::uuid AND status = %(status)s::text
            AND position < %(position)s::int
        ORDER BY position DESC LIMIT %(count)s::int
    ) AS newest
) AS sized
WHERE bytes <= %(max_bytes)s::bigint
ORDER BY position
"""
COMPLETE = """
WITH freed AS (
    UPDATE chat_conversation
    SET lease_token = NULL, lease_until = NULL, updated_at = statement_timestamp()
    WHERE id = %(conversation)s::uuid AND lease_token = %(token)s::uuid
    RETURNING id
)
INSERT INTO chat_message
    (id, conversation_id, position, role, status, content, error_code, prompt_tokens,
     completion_tokens, created_at)
SELECT %(id)s::uuid, freed.id, %(position)s::int, %(role)s::text, %(status)s::text,
    %(content)s::text, %(error_code)s::text, %(prompt_tokens)s::int, %(completion_tokens)s::int,
    %(created_at)s::timestamptz
FROM freed
RETURNING position
"""
CHAIN = """
SELECT chain.slug
FROM chat_conversation AS conversation JOIN chat_chain AS chain ON chain.id = conversation.chain_id
WHERE conversation.id = %(conversation)s::uuid AND conversation.account_id = %(account)s::uuid
"""


def fetch(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement at the primary."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
