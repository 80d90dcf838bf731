-- Waiting jobs that are due, the longest wait in seconds, and running jobs. Parameter: how many
-- waiting jobs are counted at most. Both parts read a partial index. A job that waits again has
-- waited since its `run_at`.
SELECT count(*), coalesce(greatest(0, extract(epoch FROM now() - min(since))), 0)::float8,
    (SELECT count(*) FROM jobs_job WHERE status = 'running')
FROM (
    SELECT greatest(created_at, run_at) AS since FROM jobs_job
    WHERE status = 'queued' AND is_due LIMIT %s
) AS waiting
