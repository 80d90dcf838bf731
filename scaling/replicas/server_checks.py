"""Find what is wrong with the servers; `judge` is a pure function of what they said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
from django.conf import settings
from django.db import connections

from scaling.redis_client import RedisUnavailable
from scaling.replicas import control
from scaling.replicas.decision import PRIMARY
from scaling.replicas.server_info import Facts, Slot, ask
from scaling.replicas.settings_checks import Finding, Level, of_settings

Answers = Mapping[str, Facts | str]


def inspect() -> list[Finding]:
    """Ask every server, all at once, and Redis; return what is wrong, the worst first."""
    names = list(connections.settings)
    with ThreadPoolExecutor(len(names)) as pool:
        answers = dict(zip(names, pool.map(_ask, names), strict=True))
    findings = [*of_settings(), *judge(answers), *_detached(names)]
    return sorted(findings, key=lambda finding: -finding.level)


def judge(answers: Answers) -> Iterator[Finding]:
    """Yield what is wrong with servers that said this; a text is why one said nothing."""
    primary = answers[PRIMARY]
    for name, facts in answers.items():
        if isinstance(facts, str):
            yield _finding(name, Level.ERROR, "E010", f"does not answer: {facts}.", ANSWER)
            continue
        yield from _connections(name, facts)
        if not facts.may_monitor:
            yield _finding(name, Level.WARNING, "W010", "hides its timeline from our role.", ROLE)
        if name == PRIMARY:
            yield from _primary(facts)
        else:
            yield from _replica(name, facts, primary)


ANSWER = "Start it, or correct its URL."
ROLE = "On the primary: GRANT pg_monitor TO the role of its URL."


def _primary(facts: Facts) -> Iterator[Finding]:
    if facts.is_in_recovery:
        text = "is a replica itself: writes fail."
        yield _finding(PRIMARY, Level.ERROR, "E011", text, "Correct DATABASE_URL, or promote it.")
    for slot in facts.slots:
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


def _replica(name: str, facts: Facts, primary: Facts | str) -> Iterator[Finding]:
    if isinstance(primary, Facts) and facts.started_at == primary.started_at:
        # After a failover the URLs of all servers name the primary too, and that is well.
        return
    if not facts.is_in_recovery:
        text = "takes writes itself, and so gets no reads."
        advice = "Have it follow the primary, or remove it from DATABASE_REPLICA_URLS."
        yield _finding(name, Level.ERROR, "E013", text, advice)
    elif not facts.has_feedback:
        text = "has hot_standby_feedback off: the primary's vacuum may end reads here."
        yield _finding(name, Level.WARNING, "W013", text, "Set hot_standby_feedback = on there.")
    if isinstance(primary, str):
        return
    if facts.system_identifier != primary.system_identifier:
        text = "is of another database cluster than the primary."
        yield _finding(name, Level.ERROR, "E014", text, "Correct its URL.")
    if facts.major_version != primary.major_version:
        text = f"is PostgreSQL {facts.major_version}, the primary {primary.major_version}."
        yield _finding(name, Level.ERROR, "E015", text, "Run the same major version everywhere.")


def _connections(name: str, facts: Facts) -> Iterator[Finding]:
    """Compare with what all processes may take: each a pool, and one connection to watch it."""
    pool = settings.DATABASE_POOL if name == PRIMARY else settings.REPLICA_POOL
    each = int(pool["max_size"]) + 1
    processes = max(1, facts.processes)
    # Without a pool there is no number to compare.
    if not pool["max_size"] or each * processes <= facts.max_connections:
        return
    setting = "DATABASE_POOL_MAX" if name == PRIMARY else "REPLICA_POOL_MAX"
    text = (
        f"has room for {facts.max_connections} connections, and {processes} processes may take"
        f" {each} each."
    )
    yield _finding(
        name, Level.WARNING, "W014", text, f"Lower {setting}, or raise max_connections there."
    )


def _detached(names: list[str]) -> Iterator[Finding]:
    try:
        detached = control.detached()
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


def _ask(name: str) -> Facts | str:
    try:
        return ask(name)
    except (psycopg.Error, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__


def _finding(name: str, level: Level, number: str, text: str, advice: str) -> Finding:
    return Finding(level=level, id=f"scaling.{number}", subject=name, text=text, advice=advice)
