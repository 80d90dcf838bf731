"""The OpenAPI document, and the words that views use to describe themselves in it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import Direction
from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """An API error: `type` is the class of error, `code` the exact one for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


def error_responses(*statuses: int) -> dict[int, type[BaseModel]]:
    """Return the OpenAPI entries of the errors a view may answer with."""
    return dict.fromkeys(statuses, ErrorBody)


# What each event of a stream looks like; OpenAPI 3.1 itself has no word for a stream.
EVENT_STREAM = {
    "type": "object",
    "description": "One server-sent event. `data` is JSON, or the `[DONE]` that ends a completion.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}


class PydanticByDirection(PydanticExtension):
    """Describe requests as pydantic validates them and answers as it writes them.

    drf-spectacular's own extension always takes the second, in which every field with a default is
    required.
    """

    priority = 1

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """Return the JSON schema of a model, its parts moved to the components."""
        mode = "validation" if direction == "request" else "serialization"
        schema: dict[str, Any] = self.target.model_json_schema(
            ref_template="#/components/schemas/{model}", mode=mode
        )
        for name, part in schema.pop("$defs", {}).items():
            auto_schema.registry.register_on_missing(
                ResolvedComponent(
                    name=name, type=ResolvedComponent.SCHEMA, object=name, schema=part
                )
            )
        return schema
