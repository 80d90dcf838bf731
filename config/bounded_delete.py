"""The admin's confirmation of a deletion, without loading all that belongs to the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import CASCADE, PROTECT

if TYPE_CHECKING:
    from django.http import HttpRequest

    ModelAdminBase = admin.ModelAdmin[Any]
else:
    ModelAdminBase = admin.ModelAdmin

COUNTED = 1000


class BoundedDelete(ModelAdminBase):
    """Counts, up to COUNTED of a kind, where Django would load and name each object.

    A chain or an account may have a million jobs, with megabytes in each.
    """

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return the names of `objs`, counts, missing permissions and what protects them."""
        counts: dict[str, Any] = {str(self.opts.verbose_name_plural): len(objs)}
        missing: set[str] = set()
        protected: list[str] = []
        keys = [obj.pk for obj in objs]
        for relation in self.opts.related_objects:
            model = relation.related_model
            rows = model._base_manager.filter(**{f"{relation.field.name}__in": keys})
            found = rows.order_by().values("pk")[: COUNTED + 1].count()
            if not found or relation.on_delete not in (CASCADE, PROTECT):
                continue
            name = str(model._meta.verbose_name_plural)
            count = str(found) if found <= COUNTED else f"more than {COUNTED}"
            if relation.on_delete is PROTECT:
                protected.append(f"{count} {name}")
                continue
            counts[name] = count
            registered = self.admin_site._registry.get(model)
            if registered is not None and not registered.has_delete_permission(request):
                missing.add(str(model._meta.verbose_name))
        return [str(obj) for obj in objs], counts, missing, protected
