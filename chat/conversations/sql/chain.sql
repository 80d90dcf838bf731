-- The chain of an account's conversation.
SELECT chain.slug::text
FROM chat_conversation AS conversation JOIN chat_chain AS chain ON chain.id = conversation.chain_id
WHERE conversation.id = %(conversation)s::uuid AND conversation.account_id = %(account)s::uuid
