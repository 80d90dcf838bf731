"""Django's database router: writes go to the primary, reads by `routing`."""

from typing import Any

from django.db.models import Model

from scaling.replicas import routing
from scaling.replicas.decision import PRIMARY


class Router:
    """Routes a model's reads by its `read_scope`; a model without one stays on the primary."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        """Return the server of a read."""
        scope: str | None = getattr(model, "read_scope", None)
        return PRIMARY if scope is None else routing.server_for(scope)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        """Return the primary; Django also calls it without a write, as for a foreign key."""
        return PRIMARY

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool:
        """Allow all: every server holds the same rows."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Migrate the primary alone; the others follow."""
        return db == PRIMARY
