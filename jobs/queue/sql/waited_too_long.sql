-- Whether a job's first deferral is more than `hours` ago. The present attempt has not ended yet,
-- and no `retry` of the client's lies in between.
SELECT coalesce(min(a.started_at) < now() - %(hours)s * interval '1 hour', false)
FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id
WHERE j.id = %(job_id)s AND a.outcome = 'deferred' AND a.started_at >= j.started_at
