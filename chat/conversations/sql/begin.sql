-- Begin a turn: take the conversation's lease, and store the user's message.
--
-- The conversation's row is locked while its messages are numbered. A statement that had to wait for
-- the lock numbers by what it saw before, and then fails by the constraint on positions.
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
RETURNING position::int
