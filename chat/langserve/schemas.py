"""The bodies of LangServe's endpoints, as far as Headrace supports them.

Source: the requests and responses of langserve's `RemoteRunnable` (`langserve/client.py`). A field
that is not here is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from pydantic import BaseModel, Discriminator, Field, Tag

from config.api.validation import RequestModel


class InvokeConfig(RequestModel):
    """The part of LangChain's RunnableConfig that a client may set; `callbacks` never.

    `configurable` takes the options that the chain declares, see its `config_schema`. A higher
    `max_concurrency` or `recursion_limit` than the server allows is lowered to that.
    """

    tags: (
        Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=32, fail_fast=True)]
        | None
    ) = None
    metadata: Annotated[dict[str, Any], Field(max_length=64)] | None = None
    run_name: Annotated[str, Field(max_length=128)] | None = None
    # Strict validation would want a UUID object, which JSON has none of.
    run_id: Annotated[UUID, Field(strict=False)] | None = None
    max_concurrency: Annotated[int, Field(ge=1)] | None = None
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    configurable: dict[str, Any] | None = None


class NoArguments(RequestModel):
    """`kwargs` is always there and always empty: RemoteRunnable itself passes none on."""


class InvokeRequest(RequestModel):
    """The body of `invoke` and `stream`; the chain's `input_schema` describes `input`."""

    input: Any
    config: InvokeConfig | None = None
    kwargs: NoArguments | None = None


def _one_or_each(config: Any) -> str:
    return "each" if isinstance(config, list) else "all"


BatchConfig = Annotated[
    Annotated[InvokeConfig, Tag("all")]
    | Annotated[
        list[InvokeConfig],
        Field(max_length=settings.MAX_BATCH_INPUTS, fail_fast=True),
        Tag("each"),
    ],
    Discriminator(_one_or_each),
]


class BatchRequest(RequestModel):
    """The body of `batch`; `config` is one for all inputs, or a list with one for each."""

    inputs: Annotated[list[Any], Field(max_length=settings.MAX_BATCH_INPUTS)]
    config: BatchConfig | None = None
    kwargs: NoArguments | None = None


class RunMetadata(BaseModel):
    """The run's id; feedback is not collected."""

    run_id: UUID
    feedback_tokens: list[Any]


class InvokeBody(BaseModel):
    """The answer of `invoke`; the chain's `output_schema` describes `output`."""

    output: Any
    metadata: RunMetadata


class BatchMetadata(BaseModel):
    """The ids of a batch's runs, in the order of its inputs."""

    responses: list[RunMetadata]
    run_ids: list[UUID]


class BatchBody(BaseModel):
    """The answer of `batch`; the outputs are in the order of the inputs."""

    output: list[Any]
    metadata: BatchMetadata
