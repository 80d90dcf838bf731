"""Full disks: nothing is lost or doubled, and all works again when there is space."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.faults.machine.harness import MachineFaults
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180, func_only=True)

FULL_SECONDS = 4.0
# Of an upload that is larger than what the disk has left.
UPLOAD_BYTES = 200_000


def upload(faults: MachineFaults, text: str) -> httpx.Response:
    return faults.http.post(
        "/v1/jobs", data={"chain": "quick"}, files={"file": ("a.txt", text.encode(), "text/plain")}
    )


def test_a_full_disk_of_logs_stops_no_part(faults: MachineFaults) -> None:
    before = {part["name"]: part["pid"] for part in faults.stack.status()["parts"]}
    supervisord = faults.stack.record()["supervisord"]["pid"]
    log = faults.stack.state_dir / "logs/node1.log"
    with faults.disks["logs"].full(), faults.clients() as answers:
        time.sleep(FULL_SECONDS)
    assert answers.problems == []
    faults.check_all()
    assert faults.stack.record()["supervisord"]["pid"] == supervisord
    assert {part["name"]: part["pid"] for part in faults.stack.status()["parts"]} == before
    # There is room again, and lines come again.
    written = log.stat().st_size

    def is_written() -> bool:
        for address in faults.databases.nodes.values():
            httpx.get(f"http://{address}/health/live")
        return log.stat().st_size > written

    eventually(is_written, seconds=10, what="the log goes on")


def test_a_full_disk_of_uploads_refuses_them_and_nothing_else(faults: MachineFaults) -> None:
    disk = faults.disks["media"]
    text = "word " * (UPLOAD_BYTES // 5) + "end"
    with disk.full(), faults.clients() as answers:
        jobs = faults.query("SELECT count(*) FROM jobs_job WHERE file <> ''")
        for _ in range(3):
            refused = upload(faults, text)
            assert refused.status_code == 507, refused.text
            assert refused.json()["error"]["code"] == "storage_full"
            assert "Retry-After" in refused.headers
            assert faults.query("SELECT count(*) FROM jobs_job WHERE file <> ''") == jobs
        # What was written before the disk was full is taken back.
        left = [path for path in (disk.path / "jobs").rglob("*.txt") if path.is_file()]
        assert len(left) == jobs[0][0]
    assert answers.problems == []
    accepted = upload(faults, text)
    assert accepted.status_code == 202, accepted.text
    faults.texts[accepted.json()["id"]] = text
    faults.check_all()


def test_a_full_disk_of_redis_costs_the_cache_and_no_answer(faults: MachineFaults) -> None:
    server = faults.current
    disk, client = faults.disks[server.directory.name], server.client()
    client.config_set("appendonly", "yes")
    eventually(
        lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0,
        seconds=10,
        what="the append-only file is there",
    )
    try:
        with faults.clients() as answers:
            with disk.full():
                eventually(
                    lambda: client.info("persistence")["aof_last_write_status"] != "ok",
                    seconds=10,
                    what="Redis cannot write",
                )
                time.sleep(FULL_SECONDS)
            eventually(
                lambda: client.info("persistence")["aof_last_write_status"] == "ok",
                seconds=10,
                what="Redis writes again",
            )
        assert answers.problems == []
        faults.check_all()
    finally:
        client.config_set("appendonly", "no")
