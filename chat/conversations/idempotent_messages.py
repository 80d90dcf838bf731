"""A message that is sent again with its `Idempotency-Key` gets the first one's answer.

Stored is the answer's id, and no copy of its text, which is deleted with its conversation.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

import gevent
from django.conf import settings
from django.db import Error, transaction
from psycopg_pool import PoolTimeout

from access import idempotency
from access.idempotency import Answer, Ticket
from chat.conversations.schemas import message_body
from chat.models import Conversation, Message
from chat.running import sse
from config import exact_json
from config.api.errors import NotFound
from config.api.ids import from_public_id
from scaling.connections import release_connections

if TYPE_CHECKING:
    from chat.conversations.turns import Turn
    from chat.running.run import Usage

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


class FirstAttempt:
    """The right to answer a message for the first time; without a key, every request has it.

    The key is leased for CONVERSATION_LEASE_SECONDS by the database's clock. The lease is renewed
    in the background, so that a dead node frees the key.
    """

    def __init__(self, ticket: Ticket | None = None) -> None:
        self._ticket = ticket
        self._renewer = gevent.spawn(self._renew, ticket) if ticket else None

    def complete(self, turn: Turn, content: str, usage: Usage) -> Message:
        """Store the answer, and its id under the key, both or neither.

        Raises ApiError 409 as Turn.complete does.
        """
        if self._ticket is None:
            return turn.complete(content, usage)
        with transaction.atomic():
            message = turn.complete(content, usage)
            self._ticket.store(Answer(status=201, body={"id": str(message)}, headers={}))
        self._stop()
        return message

    def give_up(self) -> None:
        """Free the key, unless there is an answer; never raises."""
        self._stop()
        if self._ticket is not None:
            self._ticket.release()

    def _stop(self) -> None:
        if self._renewer is not None:
            self._renewer.kill(block=False)

    def _renew(self, ticket: Ticket) -> None:
        while not ticket.is_over:
            gevent.sleep(settings.CONVERSATION_LEASE_SECONDS / RENEWALS_PER_LEASE)
            try:
                ticket.renew(settings.CONVERSATION_LEASE_SECONDS)
            except (Error, PoolTimeout) as error:
                logger.warning("an idempotency key was not renewed: %s", error)
            finally:
                release_connections()


def begin_attempt(
    *, account_id: uuid.UUID, key: str | None, conversation: Conversation, content: str
) -> FirstAttempt | Message:
    """Return the right to answer a message, or the answer of an earlier request.

    Raises as `idempotency.begin` does. A streamed message and a unary one are the same.
    """
    if key is None:
        return FirstAttempt()
    begun = idempotency.begin(
        account_id=account_id,
        key=key,
        fingerprint=idempotency.fingerprint(
            b"POST message", str(conversation).encode(), content.encode("utf-8", "surrogatepass")
        ),
        lease_seconds=settings.CONVERSATION_LEASE_SECONDS,
    )
    if isinstance(begun, Ticket):
        return FirstAttempt(begun)
    message_id = from_public_id("msg", begun.body["id"])
    message = Message.objects.filter(conversation=conversation, pk=message_id).first()
    if message is None:
        raise NotFound("The answer to this message was deleted.", code="not_found")
    return message


def find_question(message: Message) -> Message:
    """Return the message that this one answers."""
    return Message.objects.get(conversation=message.conversation_id, position=message.position - 1)


def replay_events(question: Message, message: Message) -> sse.Events:
    """Yield the events of a stream with a stored answer, its text in one piece."""
    yield sse.event(exact_json.dumps(message_body(question)), name="question")
    if message.content:
        yield sse.event(exact_json.dumps({"content": message.content}), name="delta")
    return sse.event(exact_json.dumps(message_body(message)), name="message")
