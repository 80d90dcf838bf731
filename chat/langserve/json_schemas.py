"""The JSON schemas of a chain."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import Runnable

from chat.langserve.schemas import InvokeConfig

logger = logging.getLogger(__name__)


def input_schema(runnable: Runnable[Any, Any]) -> dict[str, Any]:
    """Return the schema of the input; `{}`, which allows anything, when the type has none."""
    return _or_anything(runnable, runnable.get_input_jsonschema)


def output_schema(runnable: Runnable[Any, Any]) -> dict[str, Any]:
    """Return the schema of the output; `{}`, which allows anything, when the type has none."""
    return _or_anything(runnable, runnable.get_output_jsonschema)


def config_schema(runnable: Runnable[Any, Any]) -> dict[str, Any]:
    """Return the schema of `config`, its `configurable` as the runnable declares it."""

    def configurable() -> dict[str, Any]:
        return runnable.get_config_jsonschema(include=["configurable"])

    schema = InvokeConfig.model_json_schema()
    declared = _or_anything(runnable, configurable)
    if "configurable" in declared.get("properties", {}):
        schema["properties"]["configurable"] = declared["properties"]["configurable"]
        schema["$defs"] = declared.get("$defs", {})
    else:
        schema["properties"]["configurable"] = {"type": "object", "maxProperties": 0}
    return schema


def _or_anything(
    runnable: Runnable[Any, Any], read: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    try:
        return read()
    # Pydantic raises its own errors for types without a schema, and a team's code any others.
    except Exception as error:
        logger.info("%s has no schema: %s", runnable.get_name(), type(error).__name__)
        return {}
