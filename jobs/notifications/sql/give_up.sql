-- Give up deliveries that were attempted and are past `give_up_at`.
-- Fragment: `is_due` (is_due.sql).
UPDATE jobs_delivery SET status = 'given_up', lease = NULL, lease_until = NULL
WHERE id IN (SELECT id FROM jobs_delivery WHERE {is_due} AND give_up_at <= now() AND attempts > 0
             LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING channel
