-- A fragment of claim.sql: whether job `j` may run now.
j.status = 'queued' AND j.is_due
      AND j.account_id NOT IN (SELECT id FROM account_room WHERE room <= 0)
      AND j.chain_id NOT IN (SELECT id FROM chain_room WHERE room <= 0)
      AND NOT j.account_id = ANY(%(excluded_accounts)s::uuid[])
      AND (j.losses < %(suspect_losses)s OR %(allow_suspect)s)
