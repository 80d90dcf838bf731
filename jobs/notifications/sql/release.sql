-- Release deliveries whose attempt was interrupted, without counting it.
UPDATE jobs_delivery SET lease = NULL, lease_until = NULL, attempts = attempts - 1
WHERE lease = ANY(%(leases)s::uuid[])
