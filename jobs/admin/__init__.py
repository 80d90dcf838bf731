"""Admin pages of jobs: each part is a module, imported here for Django to find."""

from jobs.admin import deliveries, jobs, workers

__all__ = ["deliveries", "jobs", "workers"]
