-- Complete a turn: free the lease, if the turn has it still, and store the answer.
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
RETURNING position::int
