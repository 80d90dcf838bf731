"""`manage.py jobs`: list, retry, cancel, requeue and purge jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from config.api.errors import ApiError
from jobs import services
from jobs.errors import JobNotFound
from jobs.models import Job
from jobs.queue import reaper
from jobs.queue.messages import send
from jobs.schemas import shown_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.core.management.base import CommandParser

COLUMNS = "{:<36}  {:<10}  {:<24}  {:<20}  {:>8}  {:<19}  {}"
DEFAULT_LIMIT = 50
MAX_DAYS = 36_500


class Command(BaseCommand):
    """Manage jobs. Integers are read here and not by argparse, for one kind of error."""

    help = "List jobs, queue them again, cancel them, reap and purge."
    # The chains' own modules may be missing on an operator's machine.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        show = verbs.add_parser("list", help="List the jobs, the newest first.")
        show.add_argument("--status", help=f"Only these: {', '.join(Job.Status.values)}.")
        show.add_argument("--chain", metavar="SLUG", help="Only this chain's.")
        show.add_argument("--account", metavar="NAME", help="Only this account's.")
        show.add_argument("--limit", metavar="N", default=DEFAULT_LIMIT, help="At most so many.")
        show.add_argument("--json", action="store_true")
        for verb, text in (
            ("requeue", "Requeue running jobs: take them from their workers and queue them again."),
            ("retry", "Queue failed or cancelled jobs again."),
            ("cancel", "Cancel jobs that wait or run."),
        ):
            change = verbs.add_parser(verb, help=text)
            change.add_argument("id", nargs="+", help="As `jobs list` shows it: job_...")
        reap = verbs.add_parser("reap", help="Run the reaper once, as workers do every second.")
        reap.add_argument("--json", action="store_true")
        purge = verbs.add_parser("purge", help="Remove old jobs with their events and files.")
        purge.add_argument("--older-than-days", metavar="N", help="Default: JOB_RETENTION_DAYS.")
        purge.add_argument("--dry-run", action="store_true", help="Report the number only.")
        purge.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = options["verb"]
        if verb in ("requeue", "retry", "cancel"):
            changes = {"requeue": _requeue, "retry": _retry, "cancel": _cancel}
            self._change_all(options["id"], changes[verb])
            return
        {"list": self._list, "reap": self._reap, "purge": self._purge}[verb](options)

    def _list(self, options: dict[str, Any]) -> None:
        jobs = Job.objects.select_related("chain", "account").defer("input", "request", "output")
        if (status := options["status"]) is not None:
            if status not in Job.Status.values:
                raise CommandError(f"--status: {status!r} is none of {', '.join(Job.Status)}.")
            jobs = jobs.filter(status=status)
        for name, field in (("chain", "chain__slug"), ("account", "account__name")):
            if (value := options[name]) is not None:
                # Nothing has such a name, and PostgreSQL refuses to look for some of them.
                jobs = jobs.filter(**{field: value}) if value.isprintable() else jobs.none()
        jobs = jobs.order_by("-pk")[: _whole_number(options, "limit", minimum=1)]
        if options["json"]:
            self._print_json([_as_dict(job) for job in jobs])
            return
        titles = ("ID", "STATUS", "CHAIN", "ACCOUNT", "ATTEMPTS", "CREATED", "ERROR")
        self.stdout.write(COLUMNS.format(*titles))
        for job in jobs:
            self.stdout.write(
                COLUMNS.format(
                    str(job),
                    shown_status(job),
                    job.chain.slug,
                    job.account.name,
                    f"{job.attempts}/{job.max_attempts}",
                    f"{job.created_at:%Y-%m-%d %H:%M:%S}",
                    job.error_code,
                ).rstrip()
            )

    def _change_all(self, public_ids: list[str], change: Callable[[Job], str]) -> None:
        """Change each job; one that cannot be changed does not stop the others."""
        problems = []
        for public_id in public_ids:
            try:
                self.stdout.write(f"{public_id}: {change(_find(public_id))}.")
            except (ApiError, CommandError) as error:
                problems.append(f"{public_id}: {error}")
        if problems:
            raise CommandError("\n".join(problems))

    def _reap(self, options: dict[str, Any]) -> None:
        with transaction.atomic():
            lost = reaper.reap_dead_workers()
            due = reaper.make_due()
        done = reaper.ReapCounts(lost=lost, due=due)
        if options["json"]:
            self._print_json({"lost": lost, "due": due})
        else:
            self.stdout.write(f"{done}.")

    def _purge(self, options: dict[str, Any]) -> None:
        days = _whole_number(options, "older_than_days", minimum=0, maximum=MAX_DAYS)
        days = settings.JOB_RETENTION_DAYS if days is None else days
        count = reaper.old_jobs(days=days).count()
        removed = 0 if options["dry_run"] else self._purge_all(days, count)
        if options["json"]:
            self._print_json({"older_than_days": days, "found": count, "removed": removed})
        elif options["dry_run"]:
            self.stdout.write(f"{count} jobs ended more than {days} days ago.")
        else:
            self.stdout.write(f"Removed {removed} jobs that ended more than {days} days ago.")

    def _purge_all(self, days: int, count: int) -> int:
        removed = 0
        while batch := reaper.purge(days=days):
            removed += batch
            if self.stderr.isatty():
                is_last = removed >= count
                self.stderr.write(f"\r{removed} of {count}", str, "\n" if is_last else "")
        return removed

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2))


def _find(public_id: str) -> Job:
    job = Job.objects.select_related("chain").filter(pk=services.job_id_of(public_id)).first()
    if job is None:
        raise JobNotFound
    return job


def _requeue(job: Job) -> str:
    if not services.requeue(job):
        raise CommandError("The job is not running.")
    return _queued(job)


def _retry(job: Job) -> str:
    return _queued(services.retry(job))


def _queued(job: Job) -> str:
    # The announcer's thread may not come to it before this process ends.
    return "queued" if send(str(job)) else "queued; the broker accepted no message"


def _cancel(job: Job) -> str:
    if job.is_over:
        raise CommandError(f"The job has already ended: {job.status}.")
    return shown_status(services.request_cancel(job))


def _whole_number(
    options: dict[str, Any], name: str, *, minimum: int, maximum: int = 10**9
) -> int | None:
    value = options[name]
    if value is None:
        return None
    option = f"--{name.replace('_', '-')}"
    try:
        number = int(value)
    except ValueError as error:
        raise CommandError(f"{option}: {value!r} is not an integer.") from error
    if not minimum <= number <= maximum:
        raise CommandError(f"{option} must be {minimum} to {maximum}.")
    return number


def _as_dict(job: Job) -> dict[str, Any]:
    times = ("created_at", "run_at", "started_at", "finished_at")
    return {
        "id": str(job),
        "status": shown_status(job),
        "chain": job.chain.slug,
        "account": job.account.name,
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "error_code": job.error_code or None,
        **{name: time.isoformat() if (time := getattr(job, name)) else None for name in times},
    }
