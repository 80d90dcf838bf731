-- Record an attempt at a delivery, and set the delivery's next state.
WITH finished AS (
    UPDATE jobs_delivery SET lease = NULL, lease_until = NULL,
        delivered_at = CASE WHEN %(is_delivered)s THEN now() END,
        due_at = now() + %(delay)s * interval '1 second',
        status = CASE
            WHEN %(is_delivered)s THEN 'delivered'
            WHEN %(is_permanent)s OR now() + %(delay)s * interval '1 second' > give_up_at
                THEN 'given_up'
            ELSE 'pending' END
    WHERE id = %(id)s AND lease = %(lease)s
    RETURNING id, status
), new_attempt AS (
    INSERT INTO jobs_deliveryattempt (delivery_id, started_at, duration_seconds, is_delivered,
                                      status_code, error)
    SELECT id, now() - %(duration)s * interval '1 second', %(duration)s, %(is_delivered)s,
           %(status_code)s, %(error)s
    FROM finished
)
SELECT status FROM finished
