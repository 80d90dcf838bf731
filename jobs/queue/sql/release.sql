-- Put a running job back among the waiting ones, unless its cancellation is requested.
WITH old AS (
    SELECT id, lease FROM jobs_job
    WHERE id = %(job_id)s AND status = 'running' AND lease = %(lease)s
      AND cancel_requested_at IS NULL
    FOR UPDATE
), released AS (
    UPDATE jobs_job j SET status = 'queued', is_due = %(delay)s = 0,
        run_at = CASE WHEN %(delay)s = 0 THEN j.run_at
                 ELSE now() + %(delay)s * interval '1 second' END,
        attempts = j.attempts - CASE WHEN %(is_counted)s THEN 0 ELSE 1 END,
        error_code = %(error_code)s, error_message = %(error_message)s,
        lease = NULL, worker_id = NULL, last_event = last_event + 1
    FROM old WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.last_event, old.lease AS old_lease
), attempt AS (
    UPDATE jobs_attempt a SET outcome = %(outcome)s, ended_at = now(),
        error_code = %(error_code)s, error_message = %(error_message)s, traceback = %(traceback)s
    FROM released WHERE a.id = released.old_lease AND a.outcome = 'running'
), new_event AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'status', jsonb_strip_nulls(jsonb_build_object(
        'status', 'queued', 'reason', %(outcome)s,
        'error_code', nullif(%(error_code)s, ''))) FROM released
)
SELECT account_id FROM released
