"""Pages of a table that is too large to count."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.db import connection
from django.db.models import QuerySet

if TYPE_CHECKING:
    PaginatorBase = Paginator[Any]
else:
    PaginatorBase = Paginator

# Rows that pages are offered for. OFFSET reads all rows before a page, so deep pages would be slow;
# older rows are reached by a filter.
REACHABLE = 5000


class BoundedPaginator(PaginatorBase):
    """Pages of at most the first REACHABLE rows; never counts more of them."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or REACHABLE if there are more."""
        return min(REACHABLE, self._seen)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than the pages show."""
        return self._seen > REACHABLE

    @cached_property
    def estimate(self) -> int:
        """Return about how many rows there are, by the planner's statistics; one EXPLAIN."""
        sql, params = self._rows.order_by().values("pk").query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0]
        if isinstance(plan, str):
            plan = json.loads(plan)
        return max(self.count, int(plan[0]["Plan"]["Plan Rows"]))

    @cached_property
    def _seen(self) -> int:
        return self._rows.order_by()[: REACHABLE + 1].count()

    @property
    def _rows(self) -> QuerySet[Any]:
        rows = self.object_list
        assert isinstance(rows, QuerySet)  # noqa: S101  (the admin pages querysets alone)
        return rows
