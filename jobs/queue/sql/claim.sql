-- Claim at most `count` due jobs for a worker that holds its lease.
--
-- The first turns in order are found, then for each account with some the jobs that they are used
-- for, the best by its own priorities. A job that was passed over gets the turn of the one that
-- went before it, so that the account has used the turns that were its due and no others.
--
-- Sent as one simple query: PostgreSQL runs both statements in one transaction of its own, so a
-- claimer that is frozen in between holds no lock. The second statement's snapshot comes after the
-- lock, so it counts the jobs that every other claimer has taken.
--
-- Fragments: `eligible` (eligible.sql), `turn_order` (turn_order.sql).
SELECT pg_advisory_xact_lock(%(lock)s);
WITH running_accounts AS (
    SELECT account_id, count(*) AS running FROM jobs_job WHERE status = 'running' GROUP BY 1
), running_chains AS (
    SELECT chain_id, count(*) AS running FROM jobs_job WHERE status = 'running' GROUP BY 1
), account_room AS (
    SELECT a.id, coalesce(nullif(a.max_running_jobs, 0), %(account_limit)s) - r.running AS room
    FROM running_accounts r JOIN access_account a ON a.id = r.account_id
), chain_room AS (
    SELECT c.id, nullif(c.max_running_jobs, 0) - r.running AS room
    FROM running_chains r JOIN chat_chain c ON c.id = r.chain_id
), first AS (
    SELECT id, account_id, account_priority, rank FROM jobs_job j WHERE {eligible}
    ORDER BY account_priority DESC, rank, id
    LIMIT %(candidates)s
), turns AS (
    SELECT first.*, row_number() OVER (PARTITION BY account_id, account_priority
                                       ORDER BY rank, id) AS number
    FROM first
), accounts AS (
    SELECT account_id, account_priority, count(*) AS turns FROM first GROUP BY 1, 2
), candidates AS (
    SELECT best.*, turns.rank AS turn, turns.id AS turn_of
    FROM accounts
    CROSS JOIN LATERAL (
        SELECT one.*, row_number() OVER (ORDER BY one.priority DESC, one.id) AS number
        FROM (SELECT id, account_id, account_priority, chain_id, priority, rank,
                     losses >= %(suspect_losses)s AS is_suspect
              FROM jobs_job j
              WHERE {eligible} AND j.account_id = accounts.account_id
                AND j.account_priority = accounts.account_priority
              ORDER BY priority DESC, id LIMIT accounts.turns) AS one
    ) AS best
    JOIN turns ON turns.account_id = best.account_id
        AND turns.account_priority = best.account_priority AND turns.number = best.number
), ranked AS (
    SELECT c.*,
        row_number() OVER (PARTITION BY account_id ORDER BY {turn_order}) AS of_account,
        row_number() OVER (PARTITION BY chain_id ORDER BY {turn_order}) AS of_chain,
        row_number() OVER (PARTITION BY is_suspect ORDER BY {turn_order}) AS of_suspects
    FROM candidates c
), chosen AS (
    SELECT p.* FROM ranked p
    JOIN access_account a ON a.id = p.account_id
    JOIN chat_chain ch ON ch.id = p.chain_id
    LEFT JOIN account_room ar ON ar.id = p.account_id
    LEFT JOIN chain_room cr ON cr.id = p.chain_id
    WHERE of_account <= coalesce(
            ar.room, nullif(a.max_running_jobs, 0), %(account_limit)s, %(unlimited)s)
      AND of_chain <= coalesce(cr.room, nullif(ch.max_running_jobs, 0), %(unlimited)s)
      AND of_account <= %(per_account_limit)s
      AND (NOT is_suspect OR of_suspects = 1)
      AND EXISTS (SELECT 1 FROM jobs_worker w WHERE w.id = %(worker_id)s
                  AND w.state = 'ready' AND w.lease_until > now())
    ORDER BY {turn_order}
    LIMIT %(count)s
), claimed AS (
    UPDATE jobs_job j
    SET status = 'running', lease = gen_random_uuid(), worker_id = %(worker_id)s,
        attempts = j.attempts + 1, last_event = j.last_event + 1,
        started_at = coalesce(j.started_at, now()), rank = chosen.turn,
        progress_completed = NULL, progress_total = NULL, progress_message = ''
    FROM chosen
    WHERE j.id = chosen.id AND j.status = 'queued' AND j.is_due
    RETURNING j.*
), passed_over AS (
    SELECT turn_of AS id, account_id, account_priority,
           row_number() OVER (PARTITION BY account_id, account_priority ORDER BY turn, turn_of)
               AS number
    FROM chosen WHERE turn_of NOT IN (SELECT id FROM chosen)
), left_turns AS (
    SELECT account_id, account_priority, rank,
           row_number() OVER (PARTITION BY account_id, account_priority ORDER BY rank, id) AS number
    FROM chosen WHERE id NOT IN (SELECT turn_of FROM chosen)
), moved AS (
    UPDATE jobs_job j SET rank = left_turns.rank
    FROM passed_over JOIN left_turns USING (account_id, account_priority, number)
    WHERE j.id = passed_over.id AND j.status = 'queued'
), new_attempts AS (
    INSERT INTO jobs_attempt (id, job_id, number, worker_id, worker_name, outcome,
                              error_code, error_message, traceback)
    SELECT lease, id, attempts, %(worker_id)s, %(worker_name)s, 'running', '', '', '' FROM claimed
), new_events AS (
    INSERT INTO jobs_event (job_id, seq, kind, data)
    SELECT id, last_event, 'status',
           jsonb_build_object('status', 'running', 'attempt', attempts) FROM claimed
)
SELECT j.id, j.lease, j.account_id, j.api_key_id, c.slug, j.input::text,
       coalesce(j.request->'options', '{}')::text, j.attempts,
       j.max_attempts, j.timeout_seconds, j.losses, j.last_event,
       j.webhook_url <> '' OR j.notify_email <> '',
       greatest(0, extract(epoch FROM now() - greatest(j.created_at, j.run_at)))::float8,
       coalesce(k.tokens_per_day, 0),
       j.api = 'responses' AND NOT coalesce((j.request->>'background')::boolean, true),
       pg_current_wal_insert_lsn()::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
FROM claimed j JOIN chat_chain c ON c.id = j.chain_id
LEFT JOIN access_apikey k ON k.id = j.api_key_id
ORDER BY j.account_priority DESC, j.rank, j.id
