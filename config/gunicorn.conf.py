"""gunicorn's settings for one node: `gunicorn -c config/gunicorn.conf.py config.wsgi`."""

import contextlib
import math
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import gevent
from gunicorn import http
from gunicorn.http import wsgi

from config.env import env_bool, env_float, env_int, env_list, env_str
from node import gunicorn_body
from node.fast_path import FastPath, FastPathParser
from node.loop_turns import LOOP_TURNS
from node.open_files import raise_open_files_limit
from node.worker import STREAM_END_SECONDS, WorkerSettings

# gevent would note for each greenlet who started it and from where, for a debugger's sake.
gevent.config.track_greenlet_tree = False

gunicorn_parser = http.get_parser

bind = env_str("BIND", "127.0.0.1:8001")
proc_name = env_str("NODE_NAME", "node")

worker_class = "node.worker.DrainingWorker"
workers = env_int("WEB_WORKERS", 1, minimum=1)
worker_connections = env_int("WEB_CONNECTIONS", 2000, minimum=10)
backlog = 2048

# A worker whose event loop stands still for so long is killed and replaced. A long answer, or a
# stream, is not meant: the loop turns in that time.
timeout = env_int("WEB_TIMEOUT_SECONDS", 30, minimum=1)
# A worker is replaced after so many requests, or when it has grown too large; 0 is never.
max_requests = env_int("WEB_MAX_REQUESTS", 0)
max_requests_jitter = env_int("WEB_MAX_REQUESTS_JITTER", max_requests // 10)
worker_settings = WorkerSettings(
    max_rss_bytes=env_int("WEB_MAX_MEMORY_MB", 0) * 1024 * 1024,
    dns_timeout_seconds=env_float("DNS_TIMEOUT_SECONDS", 5.0, minimum=0.1),
    # A draining node is not ready at first, then accepts no more, then ends what it has.
    settle_seconds=env_float("DRAIN_SETTLE_SECONDS", 3.0),
    drain_seconds=env_float("DRAIN_SECONDS", 30.0),
    drain_file=Path(env_str("DRAIN_FILE")) if env_str("DRAIN_FILE") else None,
)
# When the arbiter kills a worker that does not end after its stop signal.
graceful_timeout = math.ceil(
    worker_settings.settle_seconds + worker_settings.drain_seconds + STREAM_END_SECONDS + 5
)
# Longer than HAProxy and nginx hold an idle connection to a node (seconds and 60 s), so that it is
# never the node that closes just as a request is on its way.
keepalive = env_int("WEB_KEEPALIVE_SECONDS", 75, minimum=1)

# Requests over these limits get gunicorn's own plain 400. HAProxy refuses earlier, in JSON.
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16384

# By default a proxy may say in headers what SCRIPT_NAME and PATH_INFO are; ours never does, so
# these would be a client's, who could walk around the proxy's rules for paths.
forwarder_headers = ""
forwarded_allow_ips = ",".join(env_list("FORWARDED_ALLOW_IPS", ["127.0.0.1", "::1"]))

accesslog = "-" if env_bool("WEB_ACCESS_LOG", False) else None
access_log_format = '%(t)s "%(r)s" %(s)s %(b)s %(M)sms %({x-request-id}o)s'
errorlog = "-"
loglevel = env_str("LOG_LEVEL", "INFO").lower()

# The socket of gunicorn's control interface has one default path for all nodes of a machine.
control_socket_disable = True
# The worker's sign of life is a file that it touches every second; on a disk that could block.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def on_starting(server: Any) -> None:
    """Raise the limit of open files to the node's connections."""
    raise_open_files_limit()


def pre_fork(server: Any, worker: Any) -> None:
    """Pass a new worker its settings, and the pids to notify once it serves."""
    worker.settings = worker_settings
    worker.siblings = list(server.WORKERS)


def child_exit(server: Any, worker: Any) -> None:
    """Count the workers as before, once one that had its successor started is gone."""
    if server.num_workers > server.cfg.workers:
        server.num_workers -= 1


def post_worker_init(worker: Any) -> None:
    """Connect the worker with the pipeline that it loaded."""
    # It has metrics, which a command that only reads this file has no use for.
    from node.gunicorn_response import OneWriteResponse  # noqa: PLC0415
    from node.pipeline import Pipeline  # noqa: PLC0415

    # gunicorn makes each answer by this name.
    wsgi.Response = OneWriteResponse
    pipeline = worker.wsgi if isinstance(worker.wsgi, Pipeline) else Pipeline(worker.wsgi)
    if pipeline.shedder is not None:
        pipeline.shedder.in_flight = lambda: worker.in_flight
        pipeline.shedder.is_alone = lambda: worker.is_alone
    is_plain = worker.cfg.proxy_protocol == "off" and not worker.cfg.is_ssl
    # Each request is logged by gunicorn alone.
    if pipeline.fast_path is not None and accesslog is None and is_plain:
        http.get_parser = partial(get_parser, FastPath(pipeline.fast_path, worker))


def get_parser(
    fast_path: FastPath,
    cfg: Any,
    source: Any,
    source_addr: Any,
    http2_connection: bool = False,
) -> Any:
    """Return the parser of a connection, as gunicorn.http does."""
    if http2_connection:
        return gunicorn_parser(cfg, source, source_addr, http2_connection=True)
    return FastPathParser(fast_path, cfg, source, source_addr)


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """Leave no half-read body behind, and let this worker's other connections have their turn.

    A greenlet yields only when it waits. As long as its connection always has the next request
    ready, it never does, and other connections wait for seconds. This runs after each request, in
    the loop that serves a keep-alive connection; to yield each time would cost a small request a
    tenth of its time.
    """
    if not gunicorn_body.finish(req.body):
        # gunicorn would read the rest before the next request; failed and closed, it does not.
        req.body.failed = True
        with contextlib.suppress(OSError):
            environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
    LOOP_TURNS.yield_to_loop(time.monotonic())
