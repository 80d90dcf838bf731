"""Find the faults of the servers; `judge` is a pure function of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
from django.conf import settings
from django.db import connections

from scaling.redis_client import RedisUnavailable
from scaling.replicas import detachment
from scaling.replicas.decision import PRIMARY
from scaling.replicas.server_info import ServerInfo, Slot, fetch_info
from scaling.replicas.settings_checks import Finding, Level, of_settings

ServerInfos = Mapping[str, ServerInfo | str]


def check_servers() -> list[Finding]:
    """Query every server, all at once, and Redis; return the findings, the worst first."""
    names = list(connections.settings)
    with ThreadPoolExecutor(len(names)) as pool:
        answers = dict(zip(names, pool.map(_fetch_info, names), strict=True))
    findings = [*of_settings(), *judge(answers), *_detached(names)]
    return sorted(findings, key=lambda finding: -finding.level)


def judge(answers: ServerInfos) -> Iterator[Finding]:
    """Yield the findings of these answers; a text is the reason of a missing one."""
    primary = answers[PRIMARY]
    for name, info in answers.items():
        if isinstance(info, str):
            yield _finding(name, Level.ERROR, "E010", f"does not answer: {info}.", ANSWER)
            continue
        yield from _connections(name, info)
        if not info.may_monitor:
            yield _finding(name, Level.WARNING, "W010", "hides its timeline from our role.", ROLE)
        if name == PRIMARY:
            yield from _primary(info)
        else:
            yield from _replica(name, info, primary)


ANSWER = "Start it, or correct its URL."
ROLE = "On the primary: GRANT pg_monitor TO the role of its URL."


def _primary(info: ServerInfo) -> Iterator[Finding]:
    if info.is_in_recovery:
        text = "is a replica itself: writes fail."
        yield _finding(PRIMARY, Level.ERROR, "E011", text, "Correct DATABASE_URL, or promote it.")
    for slot in info.slots:
        yield from _slot(slot)


def _slot(slot: Slot) -> Iterator[Finding]:
    drop = f"or drop it: SELECT pg_drop_replication_slot('{slot.name}')."
    if slot.wal_status == "lost":
        text = f"slot {slot.name} has lost log that its replica needs; the replica cannot follow."
        yield _finding(PRIMARY, Level.ERROR, "E012", text, f"Copy the replica again, {drop}")
    elif slot.wal_status == "unreserved":
        text = f"slot {slot.name} is about to lose log that its replica needs."
        yield _finding(
            PRIMARY,
            Level.WARNING,
            "W011",
            text,
            f"Start the replica, raise max_slot_wal_keep_size, {drop}",
        )
    elif not slot.is_active and slot.wal_status is not None:
        text = f"slot {slot.name} is unused and retains the log, until the disk is full."
        yield _finding(PRIMARY, Level.WARNING, "W012", text, f"Start its replica, {drop}")


def _replica(name: str, info: ServerInfo, primary: ServerInfo | str) -> Iterator[Finding]:
    if isinstance(primary, ServerInfo) and info.started_at == primary.started_at:
        # After a failover the URLs of all servers name the primary too, which is correct.
        return
    if not info.is_in_recovery:
        text = "takes writes itself, and so gets no reads."
        advice = "Make it follow the primary, or remove it from DATABASE_REPLICA_URLS."
        yield _finding(name, Level.ERROR, "E013", text, advice)
    elif not info.has_feedback:
        text = "has hot_standby_feedback off: the primary's vacuum may end reads here."
        yield _finding(name, Level.WARNING, "W013", text, "Set hot_standby_feedback = on there.")
    if isinstance(primary, str):
        return
    if info.system_identifier != primary.system_identifier:
        text = "is of another database cluster than the primary."
        yield _finding(name, Level.ERROR, "E014", text, "Correct its URL.")
    if info.major_version != primary.major_version:
        text = f"is PostgreSQL {info.major_version}, the primary {primary.major_version}."
        yield _finding(name, Level.ERROR, "E015", text, "Run the same major version everywhere.")


def _connections(name: str, info: ServerInfo) -> Iterator[Finding]:
    """Compare with the connections of all processes: each a pool, and one that watches."""
    pool = settings.DATABASE_POOL if name == PRIMARY else settings.REPLICA_POOL
    each = int(pool["max_size"]) + 1
    processes = max(1, info.processes)
    # Without a pool there is no number to compare.
    if not pool["max_size"] or each * processes <= info.max_connections:
        return
    setting = "DATABASE_POOL_MAX" if name == PRIMARY else "REPLICA_POOL_MAX"
    text = (
        f"has room for {info.max_connections} connections, and {processes} processes may take"
        f" {each} each."
    )
    yield _finding(
        name, Level.WARNING, "W014", text, f"Lower {setting}, or raise max_connections there."
    )


def _detached(names: list[str]) -> Iterator[Finding]:
    try:
        detached = detachment.read_detached()
    except RedisUnavailable as error:
        text = f"Redis does not answer which replicas are detached: {error}."
        yield Finding(
            level=Level.WARNING,
            id="scaling.W015",
            subject="redis",
            text=text,
            advice="Start it, or correct REDIS_URL. Without it most reads go to the primary.",
        )
        return
    for name in sorted(detached):
        text = "is detached" if name in names else "was detached, and is no replica any more"
        advice = f"manage.py replicas attach {name}"
        yield _finding(name, Level.WARNING, "W016", f"{text}.", advice)


def _fetch_info(name: str) -> ServerInfo | str:
    try:
        return fetch_info(name)
    except (psycopg.Error, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__


def _finding(name: str, level: Level, number: str, text: str, advice: str) -> Finding:
    return Finding(level=level, id=f"scaling.{number}", subject=name, text=text, advice=advice)
