"""LangServe's endpoints, so that `RemoteRunnable` can call every chain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access.principal import Limits
from chat.caching.cache_key import (
    EDGE_MISS_KEY,
    CacheDecision,
    decide,
    invoke_key_fields,
    is_deterministic_chain,
)
from chat.caching.cache_status import batch_headers
from chat.caching.response_ids import invoke_ids, new_invoke_ids
from chat.caching.unary import CacheRequest, FreshAnswer, get_or_compute
from chat.chains.catalog import get_chain
from chat.chains.registry import BuiltChain
from chat.inputs.encoding import encode, output_of
from chat.langserve.batch import BatchRun, run_batch
from chat.langserve.calls import make_call, run_id_of, run_metadata
from chat.langserve.events import END, stream_events
from chat.langserve.json_schemas import config_schema, input_schema, output_schema
from chat.langserve.schemas import (
    BatchBody,
    BatchRequest,
    InvokeBody,
    InvokeConfig,
    InvokeRequest,
)
from chat.running.api_view import ApiView, ModelCallView
from chat.running.execution import Call, Client, invoke
from chat.running.run import Run
from config.api.errors import InvalidRequest, NotFound
from config.api.schema import EVENT_STREAM, error_responses
from config.api.validation import parse
from config.slices import in_slices

SLICE_INPUTS = 5
CALL_ERRORS = error_responses(400, 401, 403, 404, 413, 415, 422, 429, 500, 502, 503, 504)
READ_ERRORS = error_responses(401, 403, 404, 429, 500, 503)


class CallView(ModelCallView):
    """A view that calls a chain as LangServe does; its answers may be cached."""

    def decide(self, api: str, chain: BuiltChain, value: Any, config: Any) -> CacheDecision:
        """Return the cache's decision about one input and its raw config."""
        return decide(
            api=api,
            config=chain.config,
            account_id=self.principal.account_id,
            key_fields=invoke_key_fields(value, config),
            is_deterministic=is_deterministic_chain(chain.config),
            cache_control=self.request.headers.get("Cache-Control", ""),
            edge_miss_key=self.request.META.get(EDGE_MISS_KEY),
        )

    def cache_request(self, call: Call, decision: CacheDecision) -> CacheRequest:
        """Return one input's call for the cache."""

        def compute(run: Run, client: Client) -> FreshAnswer:
            own = replace(call, run=run)
            output = orjson.Fragment(encode(invoke(own, client)))
            body = orjson.dumps({"output": output, "metadata": run_metadata(own)})
            texts = invoke_ids(run_id_of(own))
            return FreshAnswer(body=body, volatile_texts=texts, usage=run.usage)

        return CacheRequest(
            decision=decision,
            principal=self.principal,
            compute=compute,
            new_ids=partial(new_invoke_ids, run_id_of(call)),
        )


class InvokeView(CallView):
    """`POST /chains/{slug}/invoke`."""

    @extend_schema(
        operation_id="invoke_chain",
        tags=["langserve"],
        request=InvokeRequest,
        responses={200: InvokeBody, **CALL_ERRORS},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Return a chain's output for one input."""
        body = parse(InvokeRequest, request.data)
        chain = get_chain(slug)
        run = self.lifecycle.run = Run(timeout_seconds=chain.config.timeout_seconds)
        call = make_call(chain, body.input, body.config or InvokeConfig(), run)
        decision = self.decide("invoke", chain, body.input, raw_member(request, "config"))
        response = get_or_compute(self.cache_request(call, decision), run, self.client)
        return Response(orjson.Fragment(response.body), headers=response.headers)


class BatchView(CallView):
    """`POST /chains/{slug}/batch`."""

    @extend_schema(
        operation_id="batch_chain",
        tags=["langserve"],
        request=BatchRequest,
        responses={200: BatchBody, **CALL_ERRORS},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Return a chain's outputs for several inputs; if one fails, the batch fails.

        Each input is looked up in the cache by itself, among the answers of `invoke`.
        """
        body = parse(BatchRequest, request.data)
        chain = get_chain(slug)
        configs = _configs(body)
        batch = self.lifecycle.run = BatchRun(
            timeout_seconds=chain.config.timeout_seconds, size=len(body.inputs)
        )
        is_each = isinstance(body.config, list)
        calls = [
            make_call(
                chain,
                value,
                config,
                run,
                input_at=f"inputs.{index}",
                config_at=f"config.{index}" if is_each else "config",
            )
            for index, (value, config, run) in enumerate(
                in_slices(zip(body.inputs, configs, batch.items, strict=True), SLICE_INPUTS)
            )
        ]
        raw = raw_member(request, "config")
        requests = [
            self.cache_request(
                call, self.decide("invoke", chain, value, raw[i] if is_each else raw)
            )
            for i, (call, value) in enumerate(zip(calls, body.inputs, strict=True))
        ]
        responses = run_batch(
            [
                partial(get_or_compute, each, call.run, self.client)
                for each, call in zip(requests, calls, strict=True)
            ],
            concurrency=concurrency_of(configs, self.principal.limits),
        )
        return Response(
            {
                "output": [orjson.Fragment(output_of(each.body)) for each in responses],
                "metadata": {
                    "responses": [run_metadata(call) for call in calls],
                    "run_ids": [run_id_of(call) for call in calls],
                },
            },
            headers=batch_headers([each.headers for each in responses]),
        )


class StreamView(CallView):
    """`POST /chains/{slug}/stream`."""

    @extend_schema(
        operation_id="stream_chain",
        tags=["langserve"],
        request=InvokeRequest,
        responses={(200, "text/event-stream"): EVENT_STREAM, **CALL_ERRORS},
    )
    def post(self, request: Request, slug: str) -> Any:
        """Return a chain's output as it comes, as the events metadata, data, error and end."""
        body = parse(InvokeRequest, request.data)
        chain = get_chain(slug)
        run = self.lifecycle.run = Run(timeout_seconds=chain.config.timeout_seconds)
        call = make_call(chain, body.input, body.config or InvokeConfig(), run)
        decision = self.decide("stream", chain, body.input, raw_member(request, "config"))
        return self.answer_stream(
            call,
            decision,
            to_events=stream_events,
            closing=END,
            volatile_texts=lambda _: invoke_ids(run_id_of(call)),
            new_ids=partial(new_invoke_ids, run_id_of(call)),
        )


class InputSchemaView(ApiView):
    """`GET /chains/{slug}/input_schema`."""

    @extend_schema(
        operation_id="get_input_schema",
        tags=["langserve"],
        responses={200: OpenApiTypes.OBJECT, **READ_ERRORS},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Return the JSON schema of a chain's input."""
        return Response(input_schema(get_chain(slug).runnable))


class OutputSchemaView(ApiView):
    """`GET /chains/{slug}/output_schema`."""

    @extend_schema(
        operation_id="get_output_schema",
        tags=["langserve"],
        responses={200: OpenApiTypes.OBJECT, **READ_ERRORS},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Return the JSON schema of a chain's output."""
        return Response(output_schema(get_chain(slug).runnable))


class ConfigSchemaView(ApiView):
    """`GET /chains/{slug}/config_schema`."""

    @extend_schema(
        operation_id="get_config_schema",
        tags=["langserve"],
        responses={200: OpenApiTypes.OBJECT, **READ_ERRORS},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Return the JSON schema of the `config` that a chain's calls accept."""
        return Response(config_schema(get_chain(slug).runnable))


@extend_schema(exclude=True)
class NotServedView(ApiView):
    """LangServe's other endpoints, such as `stream_log`: not here."""

    def get(self, request: Request, slug: str, endpoint: str) -> Response:
        """Raise NotFound, with the endpoints that there are."""
        raise NotFound(
            f"Headrace does not serve {endpoint[:40]!r}; a chain has invoke, batch, stream, "
            "input_schema, output_schema and config_schema.",
            code="not_served",
        )

    post = get


def raw_member(request: Request, name: str) -> Any:
    """Return a member of a body that was parsed, as the client wrote it."""
    data: Any = request.data
    return data.get(name)


def _configs(body: BatchRequest) -> list[InvokeConfig]:
    """Return one config for each input; raises InvalidRequest (422)."""
    size = len(body.inputs)
    if isinstance(body.config, list):
        if len(body.config) != size:
            raise InvalidRequest(
                f"There are {len(body.config)} configs for {size} inputs.",
                param="config",
                code="invalid_config",
                status=422,
            )
        return body.config
    shared = body.config or InvokeConfig()
    # An id names one run: the first, as in LangChain's own batch.
    others = shared.model_copy(update={"run_id": None})
    return [shared, *[others] * (size - 1)][:size]


def concurrency_of(configs: list[InvokeConfig], limits: Limits) -> int:
    """Return how many inputs run at a time: no more than the key may have requests at once."""
    wanted = configs[0].max_concurrency if configs else None
    most: int = settings.BATCH_CONCURRENCY
    return min(wanted or most, most, limits.max_concurrent or most)
