"""OpenAI's chat completions and models; `model` is a chain's slug."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from chat import sse
from chat.api_view import ApiView, ModelCallView
from chat.catalog import find_chain, get_chain, list_chains
from chat.chain_input import to_chain_input
from chat.completions.answers import completion_body, completion_events
from chat.completions.messages import model_options, to_langchain
from chat.completions.schemas import (
    ChatCompletion,
    ChatCompletionRequest,
    ModelBody,
    ModelList,
)
from chat.execution import Call, invoke, stream
from chat.models import Chain
from chat.registry import ChatInput
from chat.run import Run
from config.errors import InvalidRequest, NotFound
from config.schema import EVENT_STREAM, error_responses
from config.validation import parse


class ChatCompletionsView(ModelCallView):
    """`POST /v1/chat/completions`."""

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
        """Answer a list of messages, whole or as a stream of chunks."""
        body = parse(ChatCompletionRequest, request.data)
        chain = get_chain(body.model)
        if body.tools and chain.chat_input not in (ChatInput.MESSAGES, ChatInput.LIST):
            raise InvalidRequest(f"{body.model} does not take tools.", param="tools")
        value = to_chain_input(chain, [to_langchain(message) for message in body.messages])
        run = self.ending.run = Run(
            timeout_seconds=chain.config.timeout_seconds, options=model_options(body)
        )
        call = Call(chain=chain, value=value, run=run, api="completions")
        if not body.stream:
            return Response(completion_body(call, invoke(call, self.client)))
        items = sse.BegunStream(stream(call, self.client))
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return self.stream_response(completion_events(call, items, include_usage=include_usage))


class ModelsView(ApiView):
    """`GET /v1/models`."""

    @extend_schema(
        operation_id="list_models",
        tags=["chat"],
        responses={200: ModelList, **error_responses(401, 403, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        """List the chains that may be called."""
        return Response({"object": "list", "data": [_model_body(c) for c in list_chains()]})


class ModelView(ApiView):
    """`GET /v1/models/{model}`."""

    @extend_schema(
        operation_id="get_model",
        tags=["chat"],
        responses={200: ModelBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Return one chain."""
        chain = find_chain(slug)
        if chain is None:
            raise NotFound("There is no such model.", code="model_not_found", param="model")
        return Response(_model_body(chain))


def _model_body(chain: Chain) -> dict[str, Any]:
    return {
        "id": chain.slug,
        "object": "model",
        "created": int(chain.created_at.timestamp()),
        "owned_by": "headrace",
    }
