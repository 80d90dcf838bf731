"""Long values reach PostgreSQL as they are, with short ones and other types."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.db import DataError, connection
from django.db.models import F
from django.db.models.functions import Now

from jobs.models import Job
from scaling.replicas.backend.json_values import LONG, LongJson
from tests.support.rows import make_job
from tests.support.statements import sent_by

pytestmark = pytest.mark.django_db

TEXTS = {
    "ascii": "x" * LONG,
    "emoji": "\N{GRINNING FACE}" * LONG,
    "quotes": "'\"\\\\%s%%$1" * LONG,
    "line feeds": "\n\t\u2028" * LONG,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_long_value_comes_back_as_it_went(kind: str) -> None:
    text = TEXTS[kind]
    # Dates, numbers of several sizes, texts, nulls and a short JSON value are in the same INSERT.
    job = make_job(input=text, request={"text": text}, request_id="'x'", notify_email="a@b.c")
    found = Job.objects.get(pk=job.pk)
    assert found.input == text
    assert found.request == {"text": text}
    assert (found.request_id, found.notify_email) == ("'x'", "a@b.c")
    assert found.created_at == job.created_at
    assert found.worker_id is None


def test_a_long_value_is_not_quoted_into_the_statement() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE long_values (value jsonb, words text)")
        value = connection.ops.adapt_json_value({"text": TEXTS["quotes"]}, None)
        cursor.execute("INSERT INTO long_values VALUES (%s, %s)", [value, TEXTS["ascii"]])
        assert sent_by(cursor) == b"INSERT INTO long_values VALUES ($1, $2)"
        cursor.execute("INSERT INTO long_values VALUES (%s, %s)", [None, "it's"])
        assert b"'it''s'" in sent_by(cursor)
        cursor.execute("SELECT words FROM long_values WHERE value IS NOT NULL")
        assert cursor.fetchall() == [(TEXTS["ascii"],)]


def test_a_long_value_is_not_quoted_into_an_update() -> None:
    job = make_job(input="", last_event=3)
    jobs = Job.objects.filter(pk=job.pk, created_at__lte=Now(), last_event__lt=4)
    sent: list[bytes] = []

    def look(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        sent.append(sent_by(context["cursor"]))
        return result

    with connection.execute_wrapper(look):
        jobs.update(
            input=TEXTS["quotes"],
            error_message=TEXTS["ascii"],
            last_event=F("last_event") + 1,
            run_at=Now() + datetime.timedelta(seconds=1),
            request={"text": "it's"},
        )
    assert len(sent[0]) < LONG
    job.refresh_from_db()
    assert (job.input, job.error_message) == (TEXTS["quotes"], TEXTS["ascii"])
    assert (job.last_event, job.request) == (4, {"text": "it's"})


def test_a_statement_whose_parameters_have_no_types_is_quoted() -> None:
    with connection.cursor() as cursor:
        value = TEXTS["quotes"]
        cursor.execute("SELECT jsonb_build_object('a', %(value)s)->>'a'", {"value": value})
        assert cursor.fetchone() == (value,)
        assert len(sent_by(cursor)) > LONG
        cursor.execute("SELECT %(value)s::text, %(value)s::text", {"value": value})
        assert cursor.fetchone() == (value, value)
        assert sent_by(cursor) == b"SELECT $1::text, $1::text"


def test_rows_with_long_values_are_inserted_together() -> None:
    jobs = [make_job(input=str(number)) for number in range(2)]
    for job in jobs:
        job.pk, job.input = None, TEXTS["emoji"] + job.input
        job.id = Job._meta.pk.get_default()
    made = Job.objects.bulk_create(jobs)
    found = Job.objects.filter(pk__in=[job.pk for job in made]).order_by("pk")
    assert sorted(job.input[-1] for job in found) == ["0", "1"]


@pytest.mark.parametrize("value", [2**70, 1.5, {1: [None, True]}, "\ud83d\ude00", "", []])
def test_json_is_what_django_makes_of_it(value: Any) -> None:
    ours = connection.ops.adapt_json_value(value, None)
    assert not isinstance(ours, LongJson)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s = %s::text::jsonb", [ours, json.dumps(value)])
        assert cursor.fetchone() == (True,)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        connection.ops.adapt_json_value(datetime.datetime.now(tz=datetime.UTC), None)
    # PostgreSQL's texts have no zero bytes.
    with pytest.raises(DataError):
        make_job(input="\0" * LONG)
