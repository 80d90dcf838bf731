"""`manage.py jobs`, on the database and the running stack."""

from __future__ import annotations

import io
import json
import subprocess
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from access.models import Account, IdempotencyKey
from chat.models import Chain
from config.api.ids import new_uuid
from jobs.management.commands import jobs as command
from jobs.models import Attempt, Event, Job, Worker
from jobs.queue import reaper
from tests.stack_plugin import EmbeddedStack
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db

ENDED_SECONDS = 15.0


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that the broker took; no real one is sent."""
    messages: list[str] = []

    def send(job_id: str) -> bool:
        messages.append(job_id)
        return True

    monkeypatch.setattr(command, "send", send)
    return messages


@pytest.fixture(autouse=True)
def _send_nothing(sent: list[str]) -> None:
    """Send no test's messages to the running stack."""


def make(status: str = "queued", *, account: str = "acme", chain: str = "c", **more: Any) -> Job:
    """Store a job."""
    owner, _ = Account.objects.get_or_create(name=account)
    row, _ = Chain.objects.get_or_create(slug=chain, defaults={"runnable": "assistant"})
    options = {"input": "x", "timeout_seconds": 60, "max_attempts": 3, **more}
    return Job.objects.create(account=owner, chain=row, status=status, **options)


def make_running(*, lease_seconds: float = 60, **more: Any) -> Job:
    """Store a job that a worker runs."""
    worker = Worker.objects.create(
        name="w",
        host="h",
        pid=1,
        version="1",
        concurrency=4,
        running=1,
        lease_until=Now() + timedelta(seconds=lease_seconds),
    )
    lease = new_uuid()
    job = make("running", lease=lease, worker=worker, attempts=1, **more)
    Attempt.objects.create(id=lease, job=job, number=1, worker=worker, worker_name="w")
    return job


def make_ended(days_ago: float, status: str = "succeeded", **more: Any) -> Job:
    """Store a job that ended so long ago."""
    return make(status, finished_at=Now() - timedelta(days=days_ago), **more)


def run(*words: str, **streams: Any) -> str:
    out = io.StringIO()
    call_command("jobs", *words, stdout=out, **streams)
    return out.getvalue()


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def ids(*words: str) -> list[str]:
    return [row["id"] for row in run_json("list", *words)]


def failing(*words: str) -> str:
    """Return the sentence that a command ends with."""
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert caught.value.returncode == 1
    return str(caught.value)


# --- list ---------------------------------------------------------------------------------------
def test_list_shows_the_newest_first_and_applies_its_filters() -> None:
    old = make("failed", error_code="chain_failed", attempts=3)
    new = make(account="zeta", chain="d")
    assert ids() == [str(new), str(old)]
    assert ids("--status", "failed") == [str(old)]
    assert ids("--chain", "d") == ids("--account", "zeta") == ids("--limit", "1") == [str(new)]
    assert ids("--chain", "d", "--account", "acme") == []
    assert ids("--account", "a\x00") == ids("--chain", "a\x00") == []
    lines = run("list").splitlines()
    assert len(lines) == 3
    assert "zeta" in lines[1]
    assert lines[2].startswith(str(old))
    assert lines[2].endswith("chain_failed")
    assert "3/3" in lines[2]


def test_list_as_json_holds_what_there_is_to_know() -> None:
    job = make_running(cancel_requested_at=Now())
    (row,) = run_json("list")
    assert row["created_at"] == Job.objects.get().created_at.isoformat()
    row.pop("created_at")
    assert row == {
        "id": str(job),
        "status": "cancelling",
        "chain": "c",
        "account": "acme",
        "priority": 5,
        "attempts": 1,
        "max_attempts": 3,
        "error_code": None,
        "run_at": None,
        "started_at": None,
        "finished_at": None,
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "--status", "lost"], "'lost' is none of queued, running"),
        (["list", "--limit", "many"], "--limit: 'many' is not an integer."),
        (["list", "--limit", "0"], "--limit must be 1 to"),
        (["purge", "--older-than-days", "-1"], "--older-than-days must be 0 to"),
        (["purge", "--older-than-days", "1.5"], "is not an integer"),
        (["purge", "--older-than-days", "9" * 20], "--older-than-days must be 0 to"),
    ],
)
def test_bad_options_end_in_a_sentence(words: list[str], sentence: str) -> None:
    assert sentence in failing(*words)


# --- requeue, retry, cancel ---------------------------------------------------------------------
def test_requeue_takes_a_running_job_from_its_worker(sent: list[str]) -> None:
    jobs = [make_running(), make_running()]
    out = run("requeue", *map(str, jobs))
    assert out.splitlines() == [f"{job}: queued." for job in jobs]
    for job in Job.objects.all():
        assert (job.status, job.attempts, job.lease) == ("queued", 0, None)
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"released"}
    assert sent == [str(job) for job in jobs]


def test_retry_queues_a_failed_job_again(sent: list[str]) -> None:
    job = make_ended(1, "failed", attempts=3, error_code="chain_failed")
    assert run("retry", str(job)) == f"{job}: queued.\n"
    job.refresh_from_db()
    assert (job.status, job.attempts, job.error_code) == ("queued", 0, "")
    assert sent == [str(job)]


def test_cancel_ends_a_waiting_job_and_requests_it_of_a_running_one() -> None:
    waiting, running = make(), make_running()
    out = run("cancel", str(waiting), str(running))
    assert out.splitlines() == [f"{waiting}: cancelled.", f"{running}: cancelling."]
    assert ids("--status", "cancelled") == [str(waiting)]
    running.refresh_from_db()
    assert (running.status, running.cancel_requested_at is None) == ("running", False)


def test_a_job_that_cannot_be_changed_is_reported_and_the_others_are_changed(
    sent: list[str],
) -> None:
    waiting, running, nobody = make(), make_running(), f"job_{'0' * 32}"
    text = failing("requeue", str(waiting), nobody, "x", str(running))
    assert text.splitlines() == [
        f"{waiting}: The job is not running.",
        f"{nobody}: There is no such job.",
        "x: There is no such job.",
    ]
    running.refresh_from_db()
    assert running.status == "queued"
    assert sent == [str(running)]
    assert "only a failed or cancelled one" in failing("retry", str(waiting))
    assert "The job has already ended: succeeded." in failing("cancel", str(make_ended(1)))


def test_a_broker_that_is_unavailable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "send", lambda job_id: False)
    assert "the broker accepted no message" in run("requeue", str(make_running()))


# --- reap ---------------------------------------------------------------------------------------
def test_reap_does_a_round_now() -> None:
    lost = make_running(lease_seconds=-1)
    living = make_running()
    scheduled = make(is_due=False, run_at=Now() - timedelta(minutes=1))
    out = run("reap")
    assert out == "1 lost, 1 due, 0 purged.\n"
    states = dict(Job.objects.values_list("pk", "status"))
    assert states[lost.pk] == "queued"
    assert states[living.pk] == "running"
    assert Job.objects.get(pk=scheduled.pk).is_due
    assert run_json("reap")["lost"] == 0


# --- purge --------------------------------------------------------------------------------------
def test_purge_removes_old_jobs_with_all_that_is_theirs(settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path
    settings.JOB_RETENTION_DAYS = 30
    old, new, waiting = make_ended(31, "failed"), make_ended(29), make()
    old.file.save("a.txt", ContentFile(b"words"))
    Event.objects.create(job=old, seq=1, kind="status", data={})
    assert run("purge", "--dry-run") == "1 jobs ended more than 30 days ago.\n"
    assert run_json("purge", "--dry-run") == {"older_than_days": 30, "found": 1, "removed": 0}
    assert Job.objects.count() == 3
    assert run("purge") == "Removed 1 jobs that ended more than 30 days ago.\n"
    assert set(Job.objects.values_list("pk", flat=True)) == {new.pk, waiting.pk}
    assert not Event.objects.exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run_json("purge", "--older-than-days", "29") == {
        "older_than_days": 29,
        "found": 1,
        "removed": 1,
    }
    assert ids() == [str(waiting)]


def test_purge_of_no_days_removes_all_that_is_over() -> None:
    make_ended(0.001)
    waiting = make()
    assert run_json("purge", "--older-than-days", "0")["removed"] == 1
    assert ids() == [str(waiting)]


def test_purge_goes_on_batch_by_batch_and_shows_progress_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(5):
        make_ended(40)
    real = reaper.purge
    monkeypatch.setattr(reaper, "purge", lambda **options: real(batch=2, **options))
    terminal, file = Terminal(), io.StringIO()
    assert "Removed 5 jobs" in run("purge", stderr=terminal)
    assert terminal.getvalue() == "\r2 of 5\r4 of 5\r5 of 5\n"
    make_ended(40)
    assert "Removed 1 jobs" in run("purge", stderr=file)
    assert file.getvalue() == ""


def test_purge_removes_old_idempotency_keys_too(settings: Any) -> None:
    account = Account.objects.create(name="acme")
    key = IdempotencyKey.objects.create(
        account=account, key="k", fingerprint="f", is_done=True, lease_until=Now()
    )
    run("purge")
    assert IdempotencyKey.objects.exists()
    IdempotencyKey.objects.filter(pk=key.pk).update(
        created_at=Now() - timedelta(hours=settings.IDEMPOTENCY_HOURS + 1)
    )
    run("purge")
    assert not IdempotencyKey.objects.exists()


# --- As a process -------------------------------------------------------------------------------
def manage(stack: EmbeddedStack, *words: str) -> subprocess.CompletedProcess[str]:
    return stack.run("jobs", *words)


def test_the_stack_s_jobs_are_listed_and_errors_are_one_sentence(stack: EmbeddedStack) -> None:
    listed = manage(stack, "list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert isinstance(json.loads(listed.stdout), list)
    nobody = f"job_{uuid.uuid4().hex}"
    failed = manage(stack, "cancel", nobody)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.strip() == f"CommandError: {nobody}: There is no such job."


def test_the_stack_runs_a_job_that_was_cancelled_and_retried(
    stack: EmbeddedStack, http: httpx.Client
) -> None:
    body = {"chain": "echo", "input": "Hello", "run_at": "2099-01-01T00:00:00Z"}
    job = http.post("/v1/jobs", json=body).json()["id"]
    assert manage(stack, "cancel", job).stdout == f"{job}: cancelled.\n"
    assert manage(stack, "retry", job).stdout == f"{job}: queued.\n"
    eventually(
        lambda: http.get(f"/v1/jobs/{job}").json()["status"] not in ("queued", "running"),
        seconds=ENDED_SECONDS,
        what="the job ends",
    )
    now = http.get(f"/v1/jobs/{job}").json()
    assert (now["status"], now["output"]) == ("succeeded", "Hello")
    reaped = json.loads(manage(stack, "reap", "--json").stdout)
    assert set(reaped) == {"lost", "due"}
    # Other tests may still want their jobs, so that nothing is removed here.
    found = json.loads(
        manage(stack, "purge", "--older-than-days", "0", "--dry-run", "--json").stdout
    )
    assert (found["found"] > 0, found["removed"]) == (True, 0)
