"""Tell clients of their jobs' ends: webhooks and e-mail."""
