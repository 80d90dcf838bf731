"""Which migrations the release that still runs can live with."""

from __future__ import annotations

import pytest
from django.db import connection, migrations, models
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from fleet.cluster.upgrade import find_problems


def problems(*operations: Operation) -> list[str]:
    """Return what is said of these operations on a table of books."""
    state = ProjectState()
    fields: list[tuple[str, models.Field]] = [
        ("id", models.BigAutoField(primary_key=True)),
        ("title", models.CharField(max_length=50)),
        ("pages", models.IntegerField(null=True)),
    ]
    state.add_model(ModelState("library", "Book", fields))
    migration = Migration("0002_change", "library")
    migration.operations = list(operations)
    return list(find_problems([migration], state, connection))


@pytest.mark.parametrize(
    "operation",
    [
        migrations.CreateModel("Shelf", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddField("book", "isbn", models.CharField(max_length=20, null=True)),
        migrations.AddField("book", "copies", models.IntegerField(db_default=1)),
        migrations.AlterField("book", "title", models.CharField(max_length=80)),
        migrations.AlterField("book", "title", models.CharField(max_length=50, help_text="Full.")),
        migrations.AlterField("book", "title", models.TextField()),
        migrations.AlterField("book", "pages", models.BigIntegerField(null=True)),
        migrations.AddIndex("book", models.Index(fields=["title"], name="by_title")),
        migrations.AlterModelOptions("book", {"ordering": ["title"]}),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("book", "pages")]
        ),
    ],
)
def test_what_only_adds_is_let_through(operation: Operation) -> None:
    assert problems(operation) == []


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (migrations.RemoveField("book", "pages"), "RemoveField is not only additive"),
        (migrations.DeleteModel("Book"), "DeleteModel is not only additive"),
        (migrations.RenameField("book", "pages", "length"), "RenameField"),
        (migrations.RenameModel("Book", "Volume"), "RenameModel"),
        (
            migrations.AddField("book", "copies", models.IntegerField(default=1)),
            "NOT NULL and has no db_default",
        ),
        (migrations.AlterField("book", "title", models.CharField(max_length=20)), "becomes"),
        (migrations.AlterField("book", "pages", models.IntegerField()), "NULL is no longer"),
        (
            migrations.AlterField("book", "title", models.CharField(max_length=50, unique=True)),
            "becomes unique",
        ),
        (migrations.AlterField("book", "pages", models.SmallIntegerField(null=True)), "smallint"),
        (migrations.RunSQL("UPDATE library_book SET title = ''"), "RunSQL"),
        (migrations.RunPython(migrations.RunPython.noop), "RunPython"),
        (
            migrations.SeparateDatabaseAndState(
                database_operations=[migrations.DeleteModel("Book")]
            ),
            "DeleteModel",
        ),
    ],
)
def test_removing_and_opaque_operations_are_reported(operation: Operation, why: str) -> None:
    (found,) = problems(operation)
    assert found.startswith("library.0002_change: ")
    assert why in found


def test_each_migration_is_judged_by_what_those_before_it_left() -> None:
    grown = migrations.AlterField("book", "title", models.CharField(max_length=80))
    back = migrations.AlterField("book", "title", models.CharField(max_length=50))

    assert len(problems(grown, back)) == 1
