-- Release a delivery until later, without counting an attempt.
UPDATE jobs_delivery SET lease = NULL, lease_until = NULL, attempts = attempts - 1,
    due_at = now() + %(delay)s * interval '1 second',
    status = CASE WHEN now() + %(delay)s * interval '1 second' > give_up_at
        THEN 'given_up' ELSE 'pending' END
WHERE id = %(id)s AND lease = %(lease)s
RETURNING status
