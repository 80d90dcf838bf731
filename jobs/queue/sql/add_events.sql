-- Append events of a running job under its lease, and store its progress.
WITH job AS (
    UPDATE jobs_job SET last_event = last_event + %(count)s::integer,
        progress_completed = coalesce((%(progress)s::jsonb->>'completed')::integer,
                                      progress_completed),
        progress_total = coalesce((%(progress)s::jsonb->>'total')::integer, progress_total),
        progress_message = coalesce(%(progress)s::jsonb->>'message', progress_message)
    WHERE id = %(job_id)s::uuid AND status = 'running' AND lease = %(lease)s::uuid
    RETURNING id, last_event
), new_events AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT job.id, job.last_event - %(count)s::integer + e.ordinal, e.event->>'kind',
           e.event->'data'
    FROM job, jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY AS e (event, ordinal)
)
SELECT id FROM job
