"""Metrics of uploads and of reading documents, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

CPU_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32)
OUTCOMES = ("ok", "refused", "cpu", "memory", "clock")
LIMITS = (
    "UPLOAD_ACCOUNT_CONCURRENCY",
    "UPLOAD_ACCOUNT_BYTES",
    "UPLOAD_CONCURRENCY",
    "UPLOAD_BYTES",
    "disk",
)

READINGS = Counter(
    "headrace_document_readings", "PDFs that were read here, by outcome.", ["outcome"]
)
READ_CPU_SECONDS = Histogram(
    "headrace_document_cpu_seconds", "Processor time of reading a PDF.", buckets=CPU_SECONDS
)
READERS = Gauge("headrace_document_readers", "Processes that read PDFs now.")
READERS_WAITING = Gauge("headrace_document_readers_waiting", "PDFs that wait for a reader.")
READERS_REFUSED = Counter(
    "headrace_document_readers_refused",
    "PDFs that found no reader free in time, by whose readers were taken.",
    ["whose"],
)
UPLOADS = Gauge("headrace_uploads", "Uploads that come in now.")
UPLOAD_BYTES = Gauge("headrace_upload_bytes", "Bytes that are reserved for uploads.")
UPLOADS_REFUSED = Counter("headrace_uploads_refused", "Uploads refused, by the limit.", ["limit"])
for _limit in LIMITS:
    UPLOADS_REFUSED.labels(_limit)
for _outcome in OUTCOMES:
    READINGS.labels(_outcome)
for _whose in ("account", "node"):
    READERS_REFUSED.labels(_whose)
