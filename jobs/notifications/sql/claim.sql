-- Claim at most `count` due deliveries. Each is attempted once, however late that is.
-- Fragment: `is_due` (is_due.sql).
WITH candidates AS (
    SELECT id, account_id, due_at FROM jobs_delivery
    WHERE {is_due} AND (give_up_at > now() OR attempts = 0)
      AND NOT account_id = ANY(%(full_accounts)s::uuid[])
    ORDER BY due_at LIMIT %(candidates)s
), ranked AS (
    SELECT id, account_id, due_at,
           row_number() OVER (PARTITION BY account_id ORDER BY due_at, id) AS of_account
    FROM candidates
), chosen AS (
    SELECT id FROM jobs_delivery
    WHERE id IN (
        SELECT id FROM ranked
        WHERE of_account <= %(per_account_limit)s - coalesce(
            (%(running)s::jsonb ->> ranked.account_id::text)::int, 0)
        ORDER BY due_at LIMIT %(count)s
    ) AND {is_due}
    FOR UPDATE SKIP LOCKED
)
UPDATE jobs_delivery d SET lease = gen_random_uuid(), attempts = d.attempts + 1,
    lease_until = now() + interval '1 second'
        * CASE d.channel WHEN 'webhook' THEN %(webhook_seconds)s ELSE %(email_seconds)s END
FROM chosen WHERE d.id = chosen.id
RETURNING d.id, d.lease, d.account_id, d.channel, d.attempts
