-- Make delayed jobs due, with their rank, once their `run_at` has come, at most `batch` of them.
-- Fragments: `rank` (rank.sql) and `account_priority` (account_priority.sql), of `j.account_id`.
UPDATE jobs_job j SET is_due = true, rank = {rank},
    account_priority = {account_priority}
FROM (SELECT id FROM jobs_job WHERE status = 'queued' AND NOT is_due AND run_at <= now()
      ORDER BY run_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED) AS due
WHERE j.id = due.id
