"""Make a call of a chain from a request."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from langchain_core.runnables import RunnableConfig

from chat.chains.registry import BuiltChain
from chat.inputs.contract import Contract, contract_of
from chat.langserve.schemas import InvokeConfig
from chat.running.execution import Call
from chat.running.run import Run

MAX_RECURSION = 100


def make_call(
    chain: BuiltChain,
    raw: Any,
    config: InvokeConfig,
    run: Run,
    *,
    input_at: str = "input",
    config_at: str = "config",
) -> Call:
    """Return the call of a chain with a client's input; raises InvalidRequest.

    `input_at` and `config_at` are their paths in the body, for errors.
    """
    contract = contract_of(chain)
    runnable_config = _runnable_config(config, contract, run, config_at)
    value = contract.read_input(raw, runnable_config, param=input_at)
    return Call(chain=chain, value=value, run=run, api="langserve", config=runnable_config)


def run_metadata(call: Call) -> dict[str, Any]:
    """Return an answer's metadata about a run."""
    return {"run_id": run_id_of(call), "feedback_tokens": []}


def run_id_of(call: Call) -> str:
    """Return the id that a client chose, or the run's own."""
    return str((call.config or {}).get("run_id") or call.run.id)


def _runnable_config(
    config: InvokeConfig, contract: Contract, run: Run, param: str
) -> RunnableConfig:
    result: RunnableConfig = {"run_id": config.run_id or run.id}
    if config.tags:
        result["tags"] = config.tags
    if config.metadata:
        result["metadata"] = config.metadata
    if config.run_name:
        result["run_name"] = config.run_name
    if config.max_concurrency:
        result["max_concurrency"] = min(config.max_concurrency, settings.BATCH_CONCURRENCY)
    if config.recursion_limit:
        result["recursion_limit"] = min(config.recursion_limit, MAX_RECURSION)
    if config.configurable:
        configurable = contract.read_configurable(
            config.configurable, param=f"{param}.configurable"
        )
        if configurable:
            result["configurable"] = configurable
    return result
