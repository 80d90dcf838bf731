-- A fragment: the rank of a job that begins to wait, of the account `account`. `account_priority`
-- is the fragment in account_priority.sql. Two probes of indexes. Two submissions at once may get
-- the same rank, which only ties them.
(SELECT greatest(
    (SELECT q.rank FROM jobs_job q WHERE q.status = 'queued' AND q.is_due
     AND q.account_priority = {account_priority} ORDER BY q.rank, q.id LIMIT 1),
    (SELECT q.rank + 1 FROM jobs_job q WHERE q.status = 'queued' AND q.is_due
     AND q.account_priority = {account_priority}
     AND q.account_id = {account} ORDER BY q.rank DESC LIMIT 1),
    0))
