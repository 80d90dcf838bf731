"""Cursor pagination: `?limit=&after=&order=`, answered with OpenAI's list envelope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from config.api.errors import InvalidRequest

Row = TypeVar("Row")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Which part of a list a client wants; `after` is the public id of the row before it."""

    limit: int
    after: str
    is_descending: bool


PARAMETERS = [
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
        description="Most items of the page; it may have fewer where they are large: `has_more`.",
    ),
    OpenApiParameter("after", str, description="The `last_id` of the page before."),
    OpenApiParameter("order", str, enum=["asc", "desc"]),
]


def read_cursor(request: Request, *, default_order: Literal["asc", "desc"]) -> Cursor:
    """Return the cursor of a request; raises InvalidRequest."""
    query = request.query_params
    raw_limit = query.get("limit", str(DEFAULT_LIMIT))
    # isdecimal() alone would let other scripts' digits through.
    if not (raw_limit.isascii() and raw_limit.isdecimal() and len(raw_limit) <= 3):
        raise InvalidRequest(f"limit must be a number from 1 to {MAX_LIMIT}.", param="limit")
    if not 1 <= (limit := int(raw_limit)) <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be a number from 1 to {MAX_LIMIT}.", param="limit")
    order = query.get("order", default_order)
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc.", param="order")
    return Cursor(limit=limit, after=query.get("after", ""), is_descending=order == "desc")


def list_body(
    rows: Sequence[Row],
    *,
    limit: int,
    to_body: Callable[[Row], dict[str, Any]],
    is_cut: bool = False,
) -> dict[str, Any]:
    """Return the envelope; `rows` holds one more than `limit` when there are more.

    `is_cut` says that there are more, however many it holds.
    """
    data = [to_body(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "has_more": is_cut or len(rows) > limit,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
