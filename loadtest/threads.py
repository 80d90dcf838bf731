"""Compare threads and greenlets as slots of a worker: `python -m loadtest.threads`.

Both claim the same jobs, call the same chains and write the same ends, JOBS at a time at most; only
the kind of slot differs. Prints the figures that ADR 8 quotes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from loadtest.servers import RUNNABLES, headrace

SLOTS = 256
KINDS = ("threads", "greenlets")
WORK = {"two-seconds": 500, "trivial": 3000}


def main() -> int:
    """Run each kind in a process of its own, in turn on one stack."""
    print("| slots | jobs | seconds | CPU seconds | memory |\n| --- | --- | --- | --- | --- |")
    with headrace(nodes=1) as ours:
        lines = (ours.state_dir / "stack.env").read_text().splitlines()
        environment = {
            **os.environ,
            **dict(line.split("=", 1) for line in lines),
            "CHAIN_RUNNABLES": RUNNABLES,
            "JOB_LEASE_SECONDS": "600",
        }
        for chain in WORK:
            for kind in KINDS:
                command = [sys.executable, "-m", "loadtest.threads", kind, chain]
                subprocess.run(command, env=environment, check=True, timeout=120)
    return 0


def measure(kind: str, chain_slug: str) -> None:
    """Queue the jobs and run them with this kind of slots."""
    # gevent patches before all other imports, and only a process that measures imports Django.
    if kind == "greenlets":
        from gevent import monkey  # noqa: PLC0415

        monkey.patch_all()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django  # noqa: PLC0415

    django.setup()
    import time  # noqa: PLC0415

    import psutil  # noqa: PLC0415

    from access.models import Account  # noqa: PLC0415
    from chat.chains.catalog import get_chain  # noqa: PLC0415
    from chat.models import Chain  # noqa: PLC0415
    from jobs.models import Job  # noqa: PLC0415
    from jobs.queue import transitions  # noqa: PLC0415
    from jobs.queue.claims import claim  # noqa: PLC0415
    from jobs.worker import registration  # noqa: PLC0415
    from scaling.connections import release_connections  # noqa: PLC0415

    account = Account.objects.order_by("created_at")[0]
    row = Chain.objects.get(slug=chain_slug)
    count = WORK[chain_slug]
    Job.objects.bulk_create(
        Job(account=account, chain=row, input="x", timeout_seconds=60, max_attempts=1, rank=rank)
        for rank in range(count)
    )
    worker = registration.register()
    chain = get_chain(chain_slug)

    def work(_: object) -> None:
        (claimed,) = claim(worker_id=worker.pk, worker_name=worker.name, count=1)
        release_connections()
        output = chain.runnable.invoke(claimed.input)
        finish = transitions.Finish(
            job_id=claimed.job_id, lease=claimed.lease, status="succeeded", output=f'"{output}"'
        )
        assert transitions.finish([finish])
        release_connections()

    process = psutil.Process()
    began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
    most = _run(kind, work, count, lambda: process.memory_full_info().pss)
    seconds = time.monotonic() - began
    cpu = sum(process.cpu_times()[:2]) - cpu
    registration.deregister(worker.pk)
    print(f"| {kind} | {count} {chain_slug} | {seconds:.1f} | {cpu:.1f} | {most / 1e6:.0f} MB |")
    sys.stdout.flush()
    os._exit(0)


def _run(kind: str, work: Callable[[object], None], count: int, memory: Callable[[], int]) -> int:
    """Do all the work; return the memory that was used near its end."""
    if kind == "greenlets":
        from gevent.pool import Pool  # noqa: PLC0415

        pool = Pool(SLOTS)
        for _ in pool.imap_unordered(work, range(count)):
            pass
        return memory()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(SLOTS) as threads:
        for _ in threads.map(work, range(count)):
            pass
        return memory()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(*sys.argv[1:])
    else:
        sys.exit(main())
