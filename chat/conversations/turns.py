"""A question and its answer, added to a conversation by one request at a time."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import gevent
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils import timezone
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from psycopg.errors import UniqueViolation

from access.limits.stored import refusal
from chat.conversations import statements
from chat.conversations.services import subject_of
from chat.models import Conversation, Message
from chat.running.run import Usage
from config.api.errors import ApiError, NotFound
from config.api.ids import new_uuid
from config.request_setup import mark_dispatched
from config.text import storable
from scaling.connections import release_connections
from scaling.response_cache.invalidation import invalidated_while

logger = logging.getLogger(__name__)

BUSY_RETRY_SECONDS = 2.0
WAIT_STEP_SECONDS = 0.1
WAIT_STEP_MAX_SECONDS = 1.0
RENEWALS_PER_LEASE = 3
# Each that fails has waited for a turn that ended, of which there is one at a time.
POSITION_ATTEMPTS = 5


class Turn:
    """The right to add an answer to a conversation.

    Invariant: an answer is stored only by the holder of the lease. The lease lasts
    CONVERSATION_LEASE_SECONDS by the database's clock and is renewed in the background, so a dead
    node frees the conversation and a thawed one cannot write into it.
    """

    def __init__(self, conversation: Conversation, token: uuid.UUID, question: Message) -> None:
        self.conversation = conversation
        self.question = question
        self._token = token
        self._is_open = True
        self._renewer = gevent.spawn(self._renew)

    def history(self) -> list[BaseMessage]:
        """Return the question after the newest messages before it that fit.

        They are CONVERSATION_HISTORY_MESSAGES with the question, and CONVERSATION_HISTORY_BYTES;
        a longer question goes alone. An incomplete answer is left out: the model would take it for
        a finished one.
        """
        rows = statements.fetch(
            statements.HISTORY,
            conversation=self.conversation.pk,
            status=Message.Status.COMPLETED.value,
            position=self.question.position,
            count=settings.CONVERSATION_HISTORY_MESSAGES - 1,
            max_bytes=settings.CONVERSATION_HISTORY_BYTES - len(self.question.content.encode()),
        )
        messages: list[BaseMessage] = [
            HumanMessage(content) if role == Message.Role.USER else AIMessage(content)
            for role, content in rows
        ]
        # A window that opens on an answer would confuse models that expect turns.
        while messages and isinstance(messages[0], AIMessage):
            messages.pop(0)
        return [*messages, HumanMessage(self.question.content)]

    def complete(self, content: str, usage: Usage) -> Message:
        """Store the answer and free the conversation; raises ApiError 409 if the lease is lost."""
        answer = self._close(content, Message.Status.COMPLETED, "", usage)
        if answer is None:
            raise ApiError(
                409,
                "The conversation was taken over or deleted while the answer was generated.",
                code="conversation_lost",
                should_retry=False,
            )
        return answer

    def abandon(self, partial: str, error_code: str) -> None:
        """Free the conversation after a failure; a partial answer is stored.

        Does nothing when the turn has ended. Never raises: the lease expires by itself.
        """
        if not self._is_open:
            return
        try:
            self._close(partial, Message.Status.INCOMPLETE, error_code, Usage())
        except DatabaseError:
            logger.exception("%s stays leased until its lease expires", self.conversation)
        finally:
            release_connections()

    def _close(
        self, content: str, status: Message.Status, error_code: str, usage: Usage
    ) -> Message | None:
        self._is_open = False
        self._renewer.kill(block=False)
        with invalidated_while([subject_of(self.conversation.pk)]):
            if not content and status == Message.Status.INCOMPLETE:
                self._free()
                return None
            answer = Message(
                conversation_id=self.conversation.pk,
                position=self.question.position + 1,
                role=Message.Role.ASSISTANT,
                status=status,
                # A model may send characters that PostgreSQL cannot store.
                content=storable(content),
                error_code=error_code,
                prompt_tokens=usage.prompt_tokens if usage.is_reported else None,
                completion_tokens=usage.completion_tokens if usage.is_reported else None,
                created_at=timezone.now(),
            )
            is_stored = statements.fetch(
                statements.COMPLETE,
                **_columns(answer),
                token=self._token,
                error_code=answer.error_code,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
            )
            return answer if is_stored else None

    def _free(self) -> None:
        Conversation.objects.filter(pk=self.conversation.pk, lease_token=self._token).update(
            lease_token=None, lease_until=None, updated_at=Now()
        )

    def _renew(self) -> None:
        while self._is_open:
            gevent.sleep(settings.CONVERSATION_LEASE_SECONDS / RENEWALS_PER_LEASE)
            try:
                Conversation.objects.filter(
                    pk=self.conversation.pk, lease_token=self._token
                ).update(lease_until=_lease_end())
            except DatabaseError as error:
                logger.warning("%s: lease not renewed: %s", self.conversation, error)
            finally:
                release_connections()


def begin_turn(conversation: Conversation, content: str) -> Turn:
    """Take the conversation and store the question.

    While another request holds it: raises ApiError 409 at once, or, with CONVERSATION_BUSY=wait,
    after CONVERSATION_WAIT_SECONDS. Raises StoredExceeded for one with
    CONVERSATION_MAX_MESSAGES.
    """
    give_up_at = time.monotonic()
    if settings.CONVERSATION_BUSY == "wait":
        give_up_at += settings.CONVERSATION_WAIT_SECONDS
    step = WAIT_STEP_SECONDS
    while (turn := _try_begin(conversation, content)) is None:
        if time.monotonic() >= give_up_at:
            raise ApiError(
                409,
                "Another message of this conversation is being answered.",
                code="conversation_busy",
                retry_after_seconds=BUSY_RETRY_SECONDS,
            )
        release_connections()
        mark_dispatched()
        gevent.sleep(step)
        step = min(step * 2, WAIT_STEP_MAX_SECONDS)
    return turn


def _try_begin(conversation: Conversation, content: str) -> Turn | None:
    token = new_uuid()
    question = Message(
        conversation_id=conversation.pk,
        role=Message.Role.USER,
        content=content,
        created_at=timezone.now(),
    )
    with invalidated_while([subject_of(conversation.pk)]):
        rows = _take(question, token)
    if rows:
        [(question.position,)] = rows
        return Turn(conversation, token, question)
    state = statements.fetch(statements.STATE, conversation=conversation.pk)
    if not state:
        raise NotFound("There is no such conversation.", code="conversation_not_found")
    if state == [(True,)] and _is_full(conversation):
        raise refusal("messages", setting="CONVERSATION_MAX_MESSAGES")
    return None


def _take(question: Message, token: uuid.UUID) -> list[tuple[Any, ...]]:
    """Lease the conversation and store its question; no row if it is leased, full or gone."""
    for attempt in range(POSITION_ATTEMPTS):
        try:
            # In an open transaction a statement that fails needs a savepoint.
            with transaction.atomic() if connection.in_atomic_block else nullcontext():
                return statements.fetch(
                    statements.BEGIN,
                    **_columns(question),
                    token=token,
                    lease_seconds=settings.CONVERSATION_LEASE_SECONDS,
                    max_messages=settings.CONVERSATION_MAX_MESSAGES,
                )
        except IntegrityError as error:
            # Another turn ended while this statement waited for it.
            is_race = isinstance(error.__cause__, UniqueViolation)
            if not is_race or attempt + 1 == POSITION_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _columns(message: Message) -> dict[str, Any]:
    return {
        "id": message.pk,
        "conversation": message.conversation_id,
        "position": message.position,
        "role": str(message.role),
        "status": str(message.status),
        "content": message.content,
        "created_at": message.created_at,
    }


def _is_full(conversation: Conversation) -> bool:
    """Return whether a question and its answer would be more than CONVERSATION_MAX_MESSAGES."""
    last = Message.objects.filter(conversation=conversation).aggregate(Max("position"))
    return 0 < settings.CONVERSATION_MAX_MESSAGES <= (last["position__max"] or 0) + 1


def _lease_end() -> object:
    return Now() + timedelta(seconds=settings.CONVERSATION_LEASE_SECONDS)
