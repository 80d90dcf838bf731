-- Finish jobs that are in the state that is expected: a running one under its lease, a queued one
-- with the lease NULL. Writes the result, the end of the attempt, the last events, and one delivery
-- for each receiver, together or not at all. An output is an array of one value, or null for none:
-- JSON's null is an output too.
WITH finishes AS (
    SELECT * FROM unnest(
        %(job_ids)s::uuid[], %(leases)s::uuid[], %(statuses)s::text[], %(outcomes)s::text[],
        ARRAY(SELECT nullif(value, 'null')->0 FROM jsonb_array_elements(%(outputs)s::jsonb)
              WITH ORDINALITY AS t (value, ordinal) ORDER BY ordinal),
        %(error_codes)s::text[],
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(error_messages)s::jsonb)
              WITH ORDINALITY AS t (value, ordinal) ORDER BY ordinal),
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(tracebacks)s::jsonb)
              WITH ORDINALITY AS t (value, ordinal) ORDER BY ordinal),
        %(prompt_tokens)s::integer[], %(completion_tokens)s::integer[],
        ARRAY(SELECT value FROM jsonb_array_elements(%(events)s::jsonb)
              WITH ORDINALITY AS t (value, ordinal) ORDER BY ordinal),
        ARRAY(SELECT value FROM jsonb_array_elements(%(progress)s::jsonb)
              WITH ORDINALITY AS t (value, ordinal) ORDER BY ordinal)
    ) AS f (job_id, lease, status, outcome, output, error_code, error_message, traceback,
            prompt_tokens, completion_tokens, events, progress)
), old AS (
    SELECT j.id, j.lease FROM jobs_job j JOIN finishes f ON j.id = f.job_id
    WHERE j.lease IS NOT DISTINCT FROM f.lease
      AND j.status = CASE WHEN f.lease IS NULL THEN 'queued' ELSE 'running' END
    ORDER BY j.id FOR UPDATE OF j
), finished AS (
    UPDATE jobs_job j SET status = f.status, output = f.output,
        error_code = f.error_code, error_message = f.error_message,
        prompt_tokens = coalesce(f.prompt_tokens, j.prompt_tokens),
        completion_tokens = coalesce(f.completion_tokens, j.completion_tokens),
        progress_completed = coalesce((f.progress->>'completed')::integer,
                                      j.progress_completed),
        progress_total = coalesce((f.progress->>'total')::integer, j.progress_total),
        progress_message = coalesce(f.progress->>'message', j.progress_message),
        lease = NULL, worker_id = NULL, finished_at = now(),
        last_event = j.last_event + jsonb_array_length(f.events) + 1
    FROM old JOIN finishes f ON f.job_id = old.id
    WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.webhook_url, j.notify_email, j.last_event, j.status
), attempts AS (
    UPDATE jobs_attempt a SET outcome = f.outcome, ended_at = now(), error_code = f.error_code,
        error_message = f.error_message, traceback = f.traceback
    FROM finished JOIN finishes f ON f.job_id = finished.id
    WHERE a.id = f.lease AND a.outcome = 'running'
), new_events AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT finished.id, finished.last_event - jsonb_array_length(f.events) - 1 + e.ordinal,
           e.event->>'kind', e.event->'data'
    FROM finished JOIN finishes f ON f.job_id = finished.id,
         jsonb_array_elements(f.events) WITH ORDINALITY AS e (event, ordinal)
    UNION ALL
    SELECT id, last_event, 'done', jsonb_build_object('status', status) FROM finished
), deliveries AS (
    INSERT INTO jobs_delivery (id, job_id, account_id, channel, event_type, target, status,
                               attempts, give_up_at)
    SELECT gen_random_uuid(), id, account_id, channel, 'job.' || status, target, 'pending', 0,
           now() + %(give_up_hours)s::float8 * interval '1 hour'
    FROM finished, LATERAL (VALUES ('webhook', webhook_url), ('email', notify_email))
         AS receiver (channel, target)
    WHERE target <> ''
)
SELECT id, account_id FROM finished
