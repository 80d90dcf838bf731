-- Put a running job back among the waiting ones, unless its cancellation is requested.
WITH old AS (
    SELECT id, lease FROM jobs_job
    WHERE id = %(job_id)s::uuid AND status = 'running' AND lease = %(lease)s::uuid
      AND cancel_requested_at IS NULL
    FOR UPDATE
), released AS (
    UPDATE jobs_job j SET status = 'queued', is_due = %(delay)s::float8 = 0,
        run_at = CASE WHEN %(delay)s::float8 = 0 THEN j.run_at
                 ELSE now() + %(delay)s::float8 * interval '1 second' END,
        attempts = j.attempts - CASE WHEN %(is_counted)s::boolean THEN 0 ELSE 1 END,
        error_code = %(error_code)s::text, error_message = %(error_message)s::text,
        lease = NULL, worker_id = NULL, last_event = last_event + 1
    FROM old WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.last_event, old.lease AS old_lease
), attempt AS (
    UPDATE jobs_attempt a SET outcome = %(outcome)s::text, ended_at = now(),
        error_code = %(error_code)s::text, error_message = %(error_message)s::text,
        traceback = %(traceback)s::text
    FROM released WHERE a.id = released.old_lease AND a.outcome = 'running'
), new_event AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'status', jsonb_strip_nulls(jsonb_build_object(
        'status', 'queued', 'reason', %(outcome)s::text,
        'error_code', nullif(%(error_code)s::text, ''))) FROM released
)
SELECT account_id FROM released
