"""Tools and structured output, by the options that chat completions have for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    PydanticToolsParser,
)
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import (
    convert_to_openai_function,
    convert_to_openai_tool,
)
from langchain_core.utils.pydantic import is_basemodel_subclass

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool
Method = Literal["function_calling", "json_schema", "json_mode"]
# Choices of the API's that are no name of a tool.
CHOICES = frozenset({"auto", "none", "required"})


class ToolBinding(BaseChatModel):
    """The part of a chat model that binds tools and schemas to its calls."""

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; `tool_choice` may be a tool's name, or "any" or True for one of them."""
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if (choice := _choice(tool_choice)) is not None:
            kwargs["tool_choice"] = choice
        return self.bind(tools=formatted, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable whose output is an object of `schema`.

        By a tool that the model must call, by the API's structured outputs (`json_schema`), or by
        its JSON mode, whose prompt must describe the object.
        """
        return structured_output(
            self, schema, method=method, include_raw=include_raw, strict=strict, options=kwargs
        )


def structured_output(
    model: BaseChatModel,
    schema: dict[str, Any] | type | None,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
    options: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Bind a schema to a model, and parse its answers; raises ValueError for an unknown method."""
    if schema is None and method != "json_mode":
        raise ValueError(f"the method {method!r} needs a schema")
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    parser: Runnable[Any, Any]
    if method == "function_calling":
        assert schema is not None  # noqa: S101
        name = convert_to_openai_tool(schema)["function"]["name"]
        bound = model.bind_tools(
            [schema],
            tool_choice=name,
            **({} if strict is None else {"strict": strict}),
            **{"parallel_tool_calls": False, **options},
            ls_structured_output_format=traced,
        )
        parser = (
            PydanticToolsParser(tools=[schema], first_tool_only=True)  # type: ignore[list-item]
            if is_class
            else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        )
    elif method in ("json_schema", "json_mode"):
        response_format = (
            {"type": "json_object"} if method == "json_mode" else _schema_format(schema, strict)
        )
        bound = model.bind(
            response_format=response_format, ls_structured_output_format=traced, **options
        )
        parser = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()  # type: ignore[arg-type]
    else:
        raise ValueError(f"there is no method {method!r}")
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    with_fallback = parsed.with_fallbacks([failed], exception_key="parsing_error")
    return RunnableMap(raw=bound) | with_fallback


def _choice(choice: str | bool | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if choice is None or choice is False:
        return None
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, dict) or choice in CHOICES:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _schema_format(schema: Any, strict: bool | None) -> dict[str, Any]:
    if isinstance(schema, dict) and schema.get("type") == "json_schema":
        return schema
    if isinstance(schema, dict) and "name" in schema and "schema" in schema:
        return {"type": "json_schema", "json_schema": schema}
    function = convert_to_openai_function(schema, strict=bool(strict))
    function["schema"] = function.pop("parameters")
    return {"type": "json_schema", "json_schema": function}
