"""OpenAI's chat completions and models; `model` is a chain's slug."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chat.caching.cache_key import (
    EDGE_MISS_KEY,
    CacheDecision,
    completion_key_fields,
    decide,
    is_deterministic_completion,
    read_directives,
)
from chat.caching.cache_status import listing_headers
from chat.caching.response_ids import completion_ids, new_completion_ids
from chat.caching.unary import CacheRequest, FreshAnswer, get_or_compute
from chat.chains.catalog import ChainListing, enabled_chains, get_chain
from chat.chains.registry import ChatInput
from chat.completions.answers import DONE, completion_body, completion_events
from chat.completions.schemas import ChatCompletion, ModelBody, ModelList
from chat.inputs.chain_input import to_chain_input
from chat.inputs.completion_messages import media_of
from chat.inputs.completion_request import ChatCompletionRequest
from chat.inputs.media_parser import MediaJsonParser
from chat.inputs.media_parts import check_long_media
from chat.inputs.openai_messages import model_options, to_langchain
from chat.models import Chain
from chat.running.api_view import ApiView, ModelCallView
from chat.running.execution import Call, Client, invoke
from chat.running.run import Run
from chat.running.sse import SseResponse
from config import exact_json
from config.api.errors import InvalidRequest, NotFound
from config.api.schema import EVENT_STREAM, error_responses
from config.api.validation import parse
from config.slices import in_slices
from scaling.database_clock import CLOCK

# One may have 128 calls of tools.
SLICE_MESSAGES = 10
# No text of a model's can hold it: there the quotes are escaped.
CREATED = re.compile(rb'"created":(\d+)')


class ChatCompletionsView(ModelCallView):
    """`POST /v1/chat/completions`."""

    parser_classes = [MediaJsonParser]

    @extend_schema(
        operation_id="create_chat_completion",
        tags=["chat"],
        request=ChatCompletionRequest,
        responses={
            200: ChatCompletion,
            (200, "text/event-stream"): EVENT_STREAM,
            **error_responses(400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504),
        },
    )
    def post(self, request: Request) -> Any:
        """Answer a list of messages, at once or as a stream of chunks."""
        body = parse(ChatCompletionRequest, request.data)
        check_long_media(media_of(body.messages))
        chain = get_chain(body.model)
        if body.tools and chain.chat_input not in (ChatInput.MESSAGES, ChatInput.LIST):
            raise InvalidRequest(f"{body.model} does not take tools.", param="tools")
        messages = [to_langchain(message) for message in in_slices(body.messages, SLICE_MESSAGES)]
        value = to_chain_input(chain, messages)
        run = self.lifecycle.run = Run(
            timeout_seconds=chain.config.timeout_seconds, options=model_options(body)
        )
        call = Call(chain=chain, value=value, run=run, api="completions")
        data: dict[str, Any] = request.data  # type: ignore[assignment]  # parsed by now
        decision = decide(
            api="completions",
            config=chain.config,
            account_id=self.principal.account_id,
            key_fields=completion_key_fields(data),
            is_deterministic=is_deterministic_completion(data, chain.config),
            cache_control=request.headers.get("Cache-Control", ""),
            edge_miss_key=self.request.META.get(EDGE_MISS_KEY),
        )
        if body.stream:
            return self._stream(call, decision, body)

        def compute(run: Run, client: Client) -> FreshAnswer:
            own = replace(call, run=run)
            body = completion_body(own, invoke(own, client))
            texts = completion_ids(run.id, body["created"])
            return FreshAnswer(body=exact_json.dumps(body), volatile_texts=texts, usage=run.usage)

        cache_request = CacheRequest(
            decision=decision,
            principal=self.principal,
            compute=compute,
            new_ids=new_completion_ids,
        )
        response = get_or_compute(cache_request, run, self.client)
        return Response(orjson.Fragment(response.body), headers=response.headers)

    def _stream(
        self, call: Call, decision: CacheDecision, body: ChatCompletionRequest
    ) -> SseResponse:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return self.answer_stream(
            call,
            decision,
            to_events=partial(completion_events, include_usage=include_usage),
            closing=DONE,
            volatile_texts=partial(_volatile_texts, call.run),
            new_ids=new_completion_ids,
        )


class ChainListingView(ApiView):
    """A view of the enabled chains, which are read every CHAIN_CACHE_SECONDS."""

    def read_chains(self) -> tuple[ChainListing, dict[str, str]]:
        """Return the chains, and the headers with their age."""
        requested_at = CLOCK.now()
        directives = read_directives(self.request.headers.get("Cache-Control", ""))
        listing = enabled_chains(bypass_cache=bool(directives & {"no-cache", "no-store"}))
        ttl_seconds = settings.CHAIN_CACHE_SECONDS
        return listing, listing_headers(
            listing.read_at, ttl_seconds=ttl_seconds, requested_at=requested_at
        )


class ModelsView(ChainListingView):
    """`GET /v1/models`."""

    @extend_schema(
        operation_id="list_models",
        tags=["chat"],
        responses={200: ModelList, **error_responses(401, 403, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        """List the chains that may be called."""
        listing, headers = self.read_chains()
        data = [_model_body(chain) for chain in listing.chains.values()]
        return Response({"object": "list", "data": data}, headers=headers)


class ModelView(ChainListingView):
    """`GET /v1/models/{model}`."""

    @extend_schema(
        operation_id="get_model",
        tags=["chat"],
        responses={200: ModelBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Return one chain."""
        listing, headers = self.read_chains()
        chain = listing.chains.get(slug)
        if chain is None:
            raise NotFound("There is no such model.", code="model_not_found", param="model")
        return Response(_model_body(chain), headers=headers)


def _volatile_texts(run: Run, body: bytes) -> tuple[str, str]:
    created = CREATED.search(body)
    return completion_ids(run.id, int(created[1]) if created else 0)


def _model_body(chain: Chain) -> dict[str, Any]:
    return {
        "id": chain.slug,
        "object": "model",
        "created": int(chain.created_at.timestamp()),
        "owned_by": "headrace",
    }
