"""Validate a client's input and options against the chain's declarations."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError

from chat.chains.registry import BuiltChain, declared_model
from chat.inputs.decoding import decode
from chat.inputs.errors import from_validation, invalid_input, unsupported

logger = logging.getLogger(__name__)

# A RemoteRunnable inside a LangGraph graph sends the graph's own bookkeeping along.
LANGGRAPH_KEYS = {"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"}


class InputType:
    """The type of a runnable's input; without a declared one every input is valid."""

    def __init__(self, runnable: Runnable[Any, Any], config: RunnableConfig | None = None) -> None:
        declared = declared_model(runnable)
        self._is_declared_model = declared is not None
        self._adapter = _adapter(declared or _generated_model(runnable, config))

    def read(self, raw: Any, *, param: str) -> Any:
        """Return the input as the chain takes it; raises InvalidRequest (422)."""
        value = decode(raw, param=param)
        if self._adapter is None:
            return value
        try:
            return self._validate(value, param)
        except ValidationError as error:
            try:
                # A type of the chain's own may look like a message without being one.
                return self._validate(raw, param)
            except ValidationError:
                raise from_validation(error, value, param=param) from error

    def _validate(self, value: Any, param: str) -> Any:
        assert self._adapter is not None  # noqa: S101  (see `read`)
        try:
            result = self._adapter.validate_python(value)
        except ValidationError:
            raise
        # LangChain's messages, and a team's own types, raise other errors before pydantic's.
        except Exception as error:
            logger.info("%s refused: %s", param, type(error).__name__)
            raise invalid_input(
                "this is not of the chain's type; see its input_schema.", param=param
            ) from error
        if self._is_declared_model:
            return result
        if isinstance(result, RootModel):
            result = result.root
        elif isinstance(result, BaseModel):
            result = _set_fields(result)
        _refuse_unknown(value, result, param)
        return result


class Contract:
    """A chain's input type and its configurable fields, read once."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self.runnable = runnable
        self._input_type = InputType(runnable)
        self._options = {spec.id: _adapter(spec.annotation) for spec in _specs(runnable)}

    def read_input(self, raw: Any, config: RunnableConfig, *, param: str) -> Any:
        """Return the input as the chain takes it; raises InvalidRequest."""
        # Options may change the type: another prompt has other variables.
        if config.get("configurable"):
            return InputType(self.runnable, config).read(raw, param=param)
        return self._input_type.read(raw, param=param)

    def read_configurable(self, values: dict[str, Any], *, param: str) -> dict[str, Any]:
        """Return the declared options among `values`; raises InvalidRequest for any others.

        The keys that LangGraph adds are left out.
        """
        options = {}
        for key, value in values.items():
            name = f"{param}.{key}"
            if key not in self._options:
                if key in LANGGRAPH_KEYS or key.startswith("__"):
                    continue
                raise unsupported("the chain has no such option.", param=name)
            adapter = self._options[key]
            try:
                options[key] = adapter.validate_python(value) if adapter else value
            except ValidationError as error:
                raise from_validation(error, value, param=name) from error
        return options


# Reading a type builds pydantic classes, which takes longer than a chain's own work.
_contracts: dict[str, Contract] = {}


def contract_of(chain: BuiltChain) -> Contract:
    """Return a chain's contract, made again when the chain was rebuilt."""
    slug = chain.config.slug
    contract = _contracts.get(slug)
    if contract is None or contract.runnable is not chain.runnable:
        contract = _contracts[slug] = Contract(chain.runnable)
    return contract


def _generated_model(runnable: Runnable[Any, Any], config: RunnableConfig | None) -> Any:
    """Return the model that LangChain makes of any other input type."""
    try:
        return runnable.get_input_schema(config)
    # Pydantic has errors of its own for types without a schema, and a team's code any others.
    except Exception as error:
        logger.warning("%s has no input schema: %s", runnable.get_name(), error)
        return None


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    if kind is None:
        return None
    try:
        return TypeAdapter(kind)
    # As above: a type of the team's own, of which pydantic may make anything.
    except Exception as error:
        logger.warning("inputs are not validated: %s", error)
        return None


def _specs(runnable: Runnable[Any, Any]) -> list[Any]:
    try:
        return runnable.config_specs
    # Two steps of a chain may declare the same field in different ways.
    except ValueError as error:
        logger.warning("%s has no configurable fields: %s", runnable.get_name(), error)
        return []


def _set_fields(model: BaseModel) -> dict[str, Any]:
    """Return the fields that a client set; the chain has its own defaults."""
    fields = type(model).model_fields
    return {fields[name].alias or name: getattr(model, name) for name in model.model_fields_set}


def _refuse_unknown(value: Any, result: Any, param: str) -> None:
    """Refuse the keys that validation has dropped.

    They must not reach the chain: a prompt would take them for its own variables, even for those
    that the chain has filled in.
    """
    if not (isinstance(value, Mapping) and isinstance(result, Mapping)):
        return
    if len(result) < len(value):
        unknown = next(key for key in value if key not in result)
        raise unsupported("the chain takes no such input.", param=f"{param}.{unknown}")
