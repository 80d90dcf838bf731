-- Why begin.sql took nothing: no row means that there is no conversation.
SELECT lease_until IS NULL OR lease_until < statement_timestamp()
FROM chat_conversation WHERE id = %(conversation)s::uuid
