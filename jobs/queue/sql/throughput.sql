-- Jobs that ended since a time, by minute and status, and the earliest end of each group.
-- Parameters: the time, and how many jobs are counted at most: the newest first, so that what is
-- cut off is the beginning of the time.
SELECT date_trunc('minute', finished_at), status, count(*), min(finished_at) FROM (
    SELECT finished_at, status FROM jobs_job WHERE finished_at >= %s
    ORDER BY finished_at DESC LIMIT %s
) AS ended GROUP BY 1, 2 ORDER BY 1
