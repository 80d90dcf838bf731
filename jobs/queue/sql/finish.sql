-- Finish jobs that are in the state that is expected: a running one under its lease, a queued one
-- with the lease NULL. Writes the result, the end of the attempt, the last events, and one delivery
-- for each receiver, together or not at all.
WITH given AS (
    SELECT * FROM unnest(
        %(job_ids)s::uuid[], %(leases)s::uuid[], %(statuses)s::text[], %(outcomes)s::text[],
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(outputs)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place),
        %(error_codes)s::text[], %(error_messages)s::text[],
        %(tracebacks)s::text[], %(prompt_tokens)s::integer[], %(completion_tokens)s::integer[],
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(events)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place),
        ARRAY(SELECT value FROM jsonb_array_elements_text(%(progress)s::jsonb)
              WITH ORDINALITY AS t (value, place) ORDER BY place)
    ) AS g (job_id, lease, status, outcome, output, error_code, error_message, traceback,
            prompt_tokens, completion_tokens, events, progress)
), old AS (
    SELECT j.id, j.lease FROM jobs_job j JOIN given g ON j.id = g.job_id
    WHERE j.lease IS NOT DISTINCT FROM g.lease
      AND j.status = CASE WHEN g.lease IS NULL THEN 'queued' ELSE 'running' END
    ORDER BY j.id FOR UPDATE OF j
), ended AS (
    UPDATE jobs_job j SET status = g.status, output = g.output::jsonb,
        error_code = g.error_code, error_message = g.error_message,
        prompt_tokens = coalesce(g.prompt_tokens, j.prompt_tokens),
        completion_tokens = coalesce(g.completion_tokens, j.completion_tokens),
        progress_completed = coalesce((g.progress::jsonb->>'completed')::integer,
                                      j.progress_completed),
        progress_total = coalesce((g.progress::jsonb->>'total')::integer, j.progress_total),
        progress_message = coalesce(g.progress::jsonb->>'message', j.progress_message),
        lease = NULL, worker_id = NULL, finished_at = now(),
        last_event = j.last_event + jsonb_array_length(g.events::jsonb) + 1
    FROM old JOIN given g ON g.job_id = old.id
    WHERE j.id = old.id
    RETURNING j.id, j.account_id, j.webhook_url, j.notify_email, j.last_event, j.status
), closed AS (
    UPDATE jobs_attempt a SET outcome = g.outcome, ended_at = now(), error_code = g.error_code,
        error_message = g.error_message, traceback = g.traceback
    FROM ended JOIN given g ON g.job_id = ended.id
    WHERE a.id = g.lease AND a.outcome = 'running'
), told AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT ended.id, ended.last_event - jsonb_array_length(g.events::jsonb) - 1 + e.place,
           e.event->>'kind', e.event->'data'
    FROM ended JOIN given g ON g.job_id = ended.id,
         jsonb_array_elements(g.events::jsonb) WITH ORDINALITY AS e (event, place)
    UNION ALL
    SELECT id, last_event, 'done', jsonb_build_object('status', status) FROM ended
), notices AS (
    INSERT INTO jobs_delivery (id, job_id, account_id, channel, event_type, target, status,
                               attempts, give_up_at)
    SELECT gen_random_uuid(), id, account_id, channel, 'job.' || status, target, 'pending', 0,
           now() + %(notice_hours)s * interval '1 hour'
    FROM ended, LATERAL (VALUES ('webhook', webhook_url), ('email', notify_email))
         AS receiver (channel, target)
    WHERE target <> ''
)
SELECT id, account_id FROM ended
