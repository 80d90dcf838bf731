"""Notify clients of finished jobs by webhook and e-mail."""
