"""Prometheus metrics of the jobs package."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

SUBMITTED = Counter("headrace_jobs_submitted", "Jobs that were accepted.", ["chain"])
REFUSED = Counter("headrace_jobs_refused", "Jobs that were refused because the queue is full.")
ENDED = Counter("headrace_jobs_ended", "Jobs that ended here, by outcome.", ["chain", "outcome"])
ATTEMPTS = Counter(
    "headrace_job_attempts", "Attempts that ended here, by outcome.", ["chain", "outcome"]
)
WAIT_SECONDS = Histogram(
    "headrace_job_wait_seconds", "Time from a job's submission to an attempt.", buckets=SECONDS
)
RUN_SECONDS = Histogram("headrace_job_run_seconds", "Time of attempts.", ["chain"], buckets=SECONDS)
RUNNING = Gauge("headrace_jobs_running", "Attempts that run in this worker now.")
RUNNING_INPUT_BYTES = Gauge(
    "headrace_jobs_running_input_bytes",
    "Bytes of the inputs of the attempts that run in this worker now.",
)
ANNOUNCE_FAILURES = Counter(
    "headrace_job_announce_failures", "Times that the broker accepted no message."
)
FOUND = Counter(
    "headrace_job_polls_found",
    "Times that this worker looked for due jobs by itself and found some.",
)
REAPED = Counter("headrace_jobs_reaped", "Repairs by a reaper: lost, due, purged, files.", ["what"])
CALLS_REPLAYED = Counter(
    "headrace_job_calls_replayed", "Model calls answered from an earlier attempt of their job."
)
