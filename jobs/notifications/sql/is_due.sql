-- A fragment: whether a delivery is due and no dispatcher holds its lease.
status = 'pending' AND due_at <= now()
      AND (lease IS NULL OR lease_until <= now())
