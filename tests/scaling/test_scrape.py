"""Scrapes of processes that are ill: a bounded time, and a clear reason."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.autoscale.errors import MeasureError
from fleet.autoscale.sources import embedded, proxy_counts
from fleet.cluster.live import sample
from fleet.cluster.paths import Layout
from fleet.cluster.processes import answers
from fleet.cluster.supervisord import Supervisord, SupervisorGone
from fleet.haproxy import HAProxyUnavailable, RuntimeApi
from scaling import scrape
from scaling.replicas import process_metrics
from scaling.scrape import ScrapeError, parse
from tests.support.ill_servers import BEHAVIOURS, Behaviour, drip, endless_body, ill_server
from tests.support.waiting import slack

# One read takes two seconds at most; a busy machine may be late.
BOUND_SECONDS = 6.0


@pytest.mark.parametrize("behave", BEHAVIOURS, ids=[each.__name__ for each in BEHAVIOURS])
def test_every_reader_ends_with_unavailable(behave: Behaviour) -> None:
    with ill_server(behave) as address, ThreadPoolExecutor(6) as threads:
        start = time.monotonic()
        # All at once: each takes its full time.
        scraped = threads.submit(scrape.scrape, address, prefixes=("headrace_",))
        counts = threads.submit(proxy_counts.read, f"http://{address}")
        buckets = threads.submit(embedded.read_buckets, address)
        collected = threads.submit(process_metrics.collect, [address])
        sampled = threads.submit(sample.read_metrics, address, "headrace_")
        ready = threads.submit(answers, address, "/health/ready")
        with pytest.raises(ScrapeError):
            scraped.result()
        with pytest.raises(
            MeasureError, match=r"HAProxy's statistics at .* cannot be read|backend"
        ):
            counts.result()
        with pytest.raises(MeasureError, match=f"the metrics of {address} cannot be read: "):
            buckets.result()
        assert collected.result().silent == 1
        assert sampled.result() == {}
        # Only its status matters there.
        assert ready.result() == (behave.__name__ == "nonsense")
        assert time.monotonic() - start < slack(BOUND_SECONDS)


def test_what_is_read_of_a_server_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "MAX_BYTES", 100_000)
    with (
        ill_server(endless_body) as address,
        pytest.raises(ScrapeError, match="longer than 100000 bytes allows"),
    ):
        scrape.fetch(f"http://{address}/metrics", timeout_seconds=30)


def test_a_server_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(ScrapeError, match="refused"):
        scrape.fetch("http://127.0.0.1:9/metrics")


def test_prometheus_format_is_read() -> None:
    text = (
        "# TYPE a counter\n"
        'a_total{chain="x y",path="C:\\\\d \\"q\\"\\n}"} 3.0\n'
        "a_total 1e3 1700000000000\n"
        'a_total{le="+Inf",} +Inf\n'
        'a_total{chain="\u2028"} 4\n'
        "b_total 7\n"
    )
    assert parse(text, prefixes=("a_",)) == {
        ("a_total", frozenset({("chain", "x y"), ("path", 'C:\\d "q"\n}')})): 3.0,
        ("a_total", frozenset()): 1000.0,
        ("a_total", frozenset({("chain", "\u2028")})): 4.0,
    }


@pytest.mark.parametrize("line", ["a", "a many", "a{b} 1", 'a{b="c} 1', 'a{b="c"', "a{} 1 2 3"])
def test_what_is_no_metric_is_refused(line: str) -> None:
    with pytest.raises(ScrapeError, match="not in Prometheus's format"):
        parse(f"{line}\n", prefixes=("a",))


@pytest.mark.parametrize("behave", [drip, endless_body], ids=["slow", "fast"])
def test_a_haproxy_that_answers_for_ever_is_unavailable(behave: Behaviour, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    is_over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                behave(connection, is_over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(HAProxyUnavailable, match="does not answer"):
            RuntimeApi(path).servers()
        is_over.set()


def test_a_supervisord_that_is_frozen_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.cluster.supervisord.CALL_SECONDS", 0.5)
    layout = Layout(state_dir=tmp_path)
    layout.supervisor_socket.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(layout.supervisor_socket))
        listener.listen()
        with pytest.raises(SupervisorGone):
            Supervisord(layout).processes()
