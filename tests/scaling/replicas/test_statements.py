"""The classification of statements by their text."""

from __future__ import annotations

import pytest
from psycopg import sql

from jobs.queue.claims import CLAIM
from scaling.replicas.statements import is_shared_write, is_write


@pytest.mark.parametrize(
    ("text", "is_shared"),
    [
        ('INSERT INTO "chat_chain" ("slug") VALUES (%s)', True),
        ('UPDATE "access_apikey" SET "revoked_at" = %s', True),
        ('DELETE FROM "access_account" WHERE "id" = %s', True),
        ("  update only public.access_account set name = name", True),
        ("WITH old AS (SELECT 1) UPDATE chat_chain SET version = 2", True),
        ("TRUNCATE jobs_job, access_account", True),
        ("TRUNCATE jobs_job", False),
        ('INSERT INTO "jobs_job" ("chain_id") VALUES (%s)', False),
        ("INSERT INTO jobs_job SELECT a.id FROM access_account a", False),
        ("UPDATE jobs_job SET rank = 1 FROM access_account a FOR UPDATE OF a SKIP LOCKED", False),
        ("INSERT INTO jobs_job SELECT id FROM chat_chain ON CONFLICT DO UPDATE SET id = 1", False),
        ('DELETE FROM "chat_chain_of_another_kind"', False),
    ],
)
def test_shared_rows_are_changed_by_writes_to_their_table(text, is_shared):
    assert is_write(text)
    assert is_shared_write(text) == is_shared


def test_a_worker_that_claims_jobs_changes_no_shared_rows():
    assert "access_account" in CLAIM
    assert not is_shared_write(CLAIM)


def test_what_is_no_plain_text_may_write_anything():
    statement = sql.SQL("SELECT 1")
    assert is_write(statement)
    assert is_shared_write(statement)


def test_what_only_reads_writes_nothing():
    assert not is_write(" SELECT * FROM access_account FOR UPDATE")
