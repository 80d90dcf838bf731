"""Bring the database to the new release while the old one still runs on it."""

from collections.abc import Callable, Iterator, Sequence

from django.core.management import call_command
from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import operations as ops
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from fleet.cluster.errors import ClusterError

# What the old release does not notice. An index is built under a lock, but changes no row.
ADDITIVE = (
    ops.CreateModel,
    ops.AddIndex,
    ops.RemoveIndex,
    ops.RenameIndex,
    ops.AlterModelManagers,
    ops.AlterModelOptions,
    ops.AlterModelTableComment,
)


def migrate(*, on_progress: Callable[[str], None], is_forced: bool = False) -> None:
    """Apply what is missing; raise `ClusterError` with a list if the old release could not go on.

    `is_forced` applies it all the same.
    """
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return
    migrations = [migration for migration, _ in plan]
    state = executor.loader.project_state(
        [node for node in executor.loader.applied_migrations if node in executor.loader.graph.nodes]
    )
    problems = list(find_problems(migrations, state, connection))
    if problems and not is_forced:
        raise ClusterError(
            "The running release could not use the database after these migrations; nothing "
            "was changed (--force applies them anyway): " + "; ".join(problems)
        )
    for migration in migrations:
        on_progress(f"migrating: {migration}")
    call_command("migrate", interactive=False, verbosity=0)


def find_problems(
    migrations: list[Migration], state: ProjectState, database: BaseDatabaseWrapper
) -> Iterator[str]:
    """Yield operations that remove or change what code without these migrations may rely on.

    `state` is that of the models before them.
    """
    state = state.clone()
    for migration in migrations:
        for operation in migration.operations:
            for change in _database_operations([operation]):
                if why := _problem(change, migration.app_label, state, database):
                    yield f"{migration}: {change.describe()} ({why})"
            operation.state_forwards(migration.app_label, state)


def _database_operations(operations: Sequence[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            yield from _database_operations(operation.database_operations)
        else:
            yield operation


def _problem(
    operation: Operation, app: str, state: ProjectState, database: BaseDatabaseWrapper
) -> str:
    if isinstance(operation, ADDITIVE):
        return ""
    if isinstance(operation, ops.AddField):
        return _added_problem(operation.field)
    if isinstance(operation, ops.AlterField):
        model = state.models.get((app, operation.model_name_lower))
        old = model.fields.get(operation.name) if model else None
        return _altered_problem(old, operation.field, database)
    return f"{type(operation).__name__} is not only additive"


def _added_problem(field: models.Field[object, object]) -> str:
    # Django takes a default back once the column is there, so that the old release's rows, which
    # say nothing of the column, would be refused.
    is_optional = field.null or field.many_to_many or field.has_db_default()
    return "" if is_optional else "the column is NOT NULL and has no db_default"


def _altered_problem(
    old: models.Field[object, object] | None,
    new: models.Field[object, object],
    database: BaseDatabaseWrapper,
) -> str:
    if old is None:
        return "the field before the change is unknown"
    if old.null and not new.null:
        return "NULL is no longer allowed"
    if new.unique and not old.unique:
        return "it becomes unique"
    old_type, new_type = old.db_type(database), new.db_type(database)
    if old_type == new_type or _is_wider(str(old_type), str(new_type)):
        return ""
    return f"{old_type} becomes {new_type}"


def _is_wider(old: str, new: str) -> bool:
    if old.startswith("varchar(") and new in ("text", "varchar"):
        return True
    if old.startswith("varchar(") and new.startswith("varchar("):
        return int(new[8:-1]) >= int(old[8:-1])
    sizes = ["smallint", "integer", "bigint"]
    return old in sizes and new in sizes and sizes.index(new) >= sizes.index(old)
