-- The newest messages before a position, as many as fit into a number of bytes.
--
-- PostgreSQL has the size of a text in its row: it reads no text that is not sent.
SELECT role::text, content::text
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
