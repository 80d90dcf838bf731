-- Whether any job waits and is due. One probe of an index; takes no lock, so that idle workers do
-- not wait for each other.
SELECT EXISTS (SELECT 1 FROM jobs_job WHERE status = 'queued' AND is_due)
