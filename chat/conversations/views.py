"""Conversations that Headrace stores, so that clients send only the new message."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access import idempotency
from chat.caching.read_cache import READ_CACHE_POLICY
from chat.chains.catalog import get_chain
from chat.conversations import services
from chat.conversations.idempotent_messages import (
    FirstAttempt,
    begin_attempt,
    find_question,
    replay_events,
)
from chat.conversations.schemas import (
    ConversationBody,
    ConversationCreate,
    ConversationDeleted,
    ConversationList,
    ConversationUpdate,
    MessageBody,
    MessageCreate,
    MessageList,
    conversation_body,
    message_body,
)
from chat.conversations.turns import Turn, begin_turn
from chat.inputs.chain_input import to_chain_input
from chat.inputs.openai_answers import answer_words
from chat.models import Conversation, Message
from chat.running import sse
from chat.running.api_view import ApiView, ModelCallView
from chat.running.execution import Call, Chunks, Heartbeat, invoke, stream
from chat.running.run import Run
from config import exact_json
from config.api.errors import ApiError, to_api_error
from config.api.pagination import PARAMETERS, list_body, read_cursor
from config.api.schema import EVENT_STREAM, error_responses
from config.api.validation import parse
from config.text import TextPieces

IDEMPOTENCY_PARAMETER = OpenApiParameter(
    idempotency.HEADER,
    {"type": "string", "minLength": 1, "maxLength": idempotency.MAX_KEY_CHARS},
    OpenApiParameter.HEADER,
    description="Any text of your own: the same message sent again with it is answered once.",
)


class ConversationsView(ApiView):
    """`/v1/conversations`."""

    @extend_schema(
        operation_id="create_conversation",
        tags=["conversations"],
        request=ConversationCreate,
        responses={
            201: ConversationBody,
            **error_responses(400, 401, 403, 404, 413, 415, 429, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """Start a conversation with a chain."""
        body = parse(ConversationCreate, request.data)
        conversation = services.create_conversation(
            account_id=self.principal.account_id, chain_slug=body.chain, metadata=body.metadata
        )
        location = f"/v1/conversations/{conversation}"
        return Response(conversation_body(conversation), 201, headers={"Location": location})

    @extend_schema(
        operation_id="list_conversations",
        tags=["conversations"],
        parameters=PARAMETERS,
        responses={200: ConversationList, **error_responses(400, 401, 403, 404, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        """List the account's conversations, the newest first."""
        cursor = read_cursor(request, default_order="desc")
        rows = services.list_conversations(account_id=self.principal.account_id, cursor=cursor)
        return Response(list_body(rows, limit=cursor.limit, to_body=conversation_body))


class ConversationView(ApiView):
    """`/v1/conversations/{id}`."""

    cache_policy = READ_CACHE_POLICY

    @extend_schema(
        operation_id="get_conversation",
        tags=["conversations"],
        responses={200: ConversationBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, public_id: str) -> Response:
        """Return one conversation."""
        return self.answer_read(
            services.read_subject(public_id), lambda: conversation_body(self._find(public_id))
        )

    @extend_schema(
        operation_id="update_conversation",
        tags=["conversations"],
        request=ConversationUpdate,
        responses={
            200: ConversationBody,
            **error_responses(400, 401, 403, 404, 413, 415, 429, 503),
        },
    )
    def patch(self, request: Request, public_id: str) -> Response:
        """Replace a conversation's metadata."""
        body = parse(ConversationUpdate, request.data)
        conversation = self._find(public_id)
        services.replace_metadata(conversation, body.metadata)
        return Response(conversation_body(conversation))

    @extend_schema(
        operation_id="delete_conversation",
        tags=["conversations"],
        responses={200: ConversationDeleted, **error_responses(401, 403, 404, 429, 503)},
    )
    def delete(self, request: Request, public_id: str) -> Response:
        """Delete a conversation with all its messages."""
        services.delete_conversation(account_id=self.principal.account_id, public_id=public_id)
        return Response({"id": public_id, "object": "conversation.deleted", "deleted": True})

    def _find(self, public_id: str) -> Conversation:
        return services.get_conversation(account_id=self.principal.account_id, public_id=public_id)


class MessagesView(ModelCallView):
    """`/v1/conversations/{id}/messages`."""

    cache_policy = READ_CACHE_POLICY

    @extend_schema(
        operation_id="list_messages",
        tags=["conversations"],
        parameters=PARAMETERS,
        responses={200: MessageList, **error_responses(400, 401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, public_id: str) -> Response:
        """List a conversation's messages, the oldest first."""
        cursor = read_cursor(request, default_order="asc")

        def make() -> dict[str, Any]:
            page = services.list_messages(conversation=self._find(public_id), cursor=cursor)
            return list_body(
                page.rows, limit=cursor.limit, to_body=message_body, is_cut=page.has_more
            )

        return self.answer_read(services.read_subject(public_id), make)

    @extend_schema(
        operation_id="create_message",
        tags=["conversations"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=MessageCreate,
        responses={
            201: MessageBody,
            (201, "text/event-stream"): EVENT_STREAM,
            **error_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504),
        },
    )
    def post(self, request: Request, public_id: str) -> Any:
        """Add a user's message and return the assistant's, streamed on request."""
        key = idempotency.read_key(request.headers)
        body = parse(MessageCreate, request.data)
        if body.stream:
            self.begin_stream()
        account_id = self.principal.account_id
        conversation = Conversation(pk=services.conversation_id_of(public_id))
        slug = services.find_chain_slug(account_id=account_id, conversation_id=conversation.pk)
        first_attempt = begin_attempt(
            account_id=account_id, key=key, conversation=conversation, content=body.content
        )
        if isinstance(first_attempt, Message):
            return self._replay(first_attempt, is_stream=body.stream)
        self.lifecycle.on_end = first_attempt.give_up
        chain = get_chain(slug)
        turn = begin_turn(conversation, body.content)
        # An open turn, as when a stream is never read, ends with the request.
        self.lifecycle.on_end = partial(_give_up, turn, first_attempt)
        value = to_chain_input(chain, turn.history())
        run = self.lifecycle.run = Run(timeout_seconds=chain.config.timeout_seconds)
        call = Call(chain=chain, value=value, run=run, api="conversations")
        if body.stream:
            events = _events(first_attempt, turn, call, self._begin_stream(turn, call))
            response = self.stream_response(events)
            response.status_code = 201
            return response
        try:
            output = invoke(call, self.client)
        except ApiError as error:
            turn.abandon("", error.code or "error")
            raise
        message = first_attempt.complete(turn, answer_words(output), run.usage)
        return Response(message_body(message), 201)

    def _replay(self, message: Message, *, is_stream: bool) -> Any:
        if not is_stream:
            return Response(message_body(message), 201, headers=idempotency.REPLAYED)
        response = self.stream_response(replay_events(find_question(message), message))
        response.status_code = 201
        for name, value in idempotency.REPLAYED.items():
            response[name] = value
        return response

    def _begin_stream(self, turn: Turn, call: Call) -> sse.PrimedStream[Chunks | Heartbeat]:
        try:
            return sse.PrimedStream(stream(call, self.client))
        except ApiError as error:
            turn.abandon("", error.code or "error")
            raise

    def _find(self, public_id: str) -> Conversation:
        return services.get_conversation(account_id=self.principal.account_id, public_id=public_id)


def _give_up(turn: Turn, first_attempt: FirstAttempt) -> None:
    # In this order: a retry with the key must not find the conversation still busy.
    turn.abandon("", "client_closed_request")
    first_attempt.give_up()


def _events(
    first_attempt: FirstAttempt, turn: Turn, call: Call, items: sse.PrimedStream[Chunks | Heartbeat]
) -> sse.Events:
    """Yield `question` and `delta`s, return `message` or `error`; a partial answer is stored."""
    sent: list[str] = []
    pieces = TextPieces()
    failure = "client_closed_request"
    try:
        yield sse.event(exact_json.dumps(message_body(turn.question)), name="question")
        for item in items:
            if isinstance(item, Heartbeat):
                yield sse.heartbeat(item)
            else:
                yield from sse.joined(_deltas(map(answer_words, item.values), pieces, sent))
        yield from _deltas([], pieces, sent, is_over=True)
        message = first_attempt.complete(turn, "".join(sent), call.run.usage)
        return sse.event(exact_json.dumps(message_body(message)), name="message")
    # The status has gone out, so that every error must go inside the stream.
    except Exception as error:
        api_error = to_api_error(error)
        failure = api_error.code or "error"
        return sse.event(exact_json.dumps(api_error.body), name="error")
    finally:
        items.close()
        turn.abandon("".join(sent), failure)


def _deltas(
    texts: Iterable[str], pieces: TextPieces, sent: list[str], *, is_over: bool = False
) -> Iterator[bytes]:
    """Yield a `delta` for each text that is not empty, and add it to `sent`.

    Half a character waits in `pieces` for the other, until the answer is over.
    """
    for text in itertools.chain(map(pieces.add, texts), [pieces.end()] if is_over else []):
        if text:
            sent.append(text)
            yield sse.event(exact_json.dumps({"content": text}), name="delta")
