"""The HTTP pages of a worker process: liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class HasReadiness(Protocol):
    """An object that may be ready."""

    is_ready: bool


def pages(worker: HasReadiness) -> WSGIApplication:
    """Return the WSGI application of a worker: /health/live, /health/ready and /metrics."""

    def metrics() -> tuple[str, str, bytes]:
        return "200 OK", CONTENT_TYPE_LATEST, generate_latest()

    def live() -> tuple[str, str, bytes]:
        return "200 OK", "application/json", b'{"status":"ok"}'

    def ready() -> tuple[str, str, bytes]:
        if worker.is_ready:
            return live()
        return "503 Service Unavailable", "application/json", b'{"status":"unavailable"}'

    answers: dict[str, Callable[[], tuple[str, str, bytes]]] = {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
    }

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = answers.get(environ.get("PATH_INFO", ""))
        if answer is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"There are /health/live, /health/ready and /metrics.\n"]
        status, content_type, body = answer()
        start_response(status, [("Content-Type", content_type)])
        return [body]

    return application
