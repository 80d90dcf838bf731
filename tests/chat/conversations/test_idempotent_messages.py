"""For how long a message's `Idempotency-Key` is held, on the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import gevent
import pytest
from django.db.models.functions import Now

from access.models import Account, IdempotencyKey
from chat.conversations.idempotent_messages import (
    FirstAttempt,
    begin_attempt,
    find_question,
    replay_events,
)
from chat.conversations.turns import Turn, begin_turn
from chat.models import Chain, Conversation, Message
from chat.running.run import Usage
from config.api.errors import ApiError, NotFound


@pytest.fixture
def conversation(db: None) -> Conversation:
    """A conversation without messages."""
    account, _ = Account.objects.get_or_create(name="repeats")
    chain, _ = Chain.objects.get_or_create(slug="repeats", defaults={"runnable": "assistant"})
    return Conversation.objects.create(account=account, chain=chain)


@pytest.fixture
def begin(conversation: Conversation) -> Iterator[Any]:
    """`begin_attempt` of a message with a key; what a test leaves open is closed."""
    begun: list[FirstAttempt | Message] = []

    def begin(content: str = "Hello") -> FirstAttempt | Message:
        begun.append(
            begin_attempt(
                account_id=conversation.account_id,
                key="k",
                conversation=conversation,
                content=content,
            )
        )
        return begun[-1]

    yield begin
    for one in begun:
        if isinstance(one, FirstAttempt):
            one.give_up()


@pytest.fixture
def turn(conversation: Conversation) -> Iterator[Turn]:
    """The conversation's first turn."""
    turn = begin_turn(conversation, "Hello")
    yield turn
    turn.abandon("", "test")


def test_a_living_node_s_key_does_not_run_out(begin: Any, turn: Turn, settings: Any) -> None:
    settings.CONVERSATION_LEASE_SECONDS = 0.6
    first_attempt = begin()
    gevent.sleep(1.0)
    with pytest.raises(ApiError) as caught:
        begin()
    assert caught.value.code == "idempotency_key_in_use"
    message = first_attempt.complete(turn, "Hi", Usage())
    assert begin() == message
    lease_until = IdempotencyKey.objects.get().lease_until
    gevent.sleep(0.5)
    assert IdempotencyKey.objects.get().lease_until == lease_until


def test_an_answer_that_comes_too_late_frees_the_key(
    begin: Any, turn: Turn, conversation: Conversation
) -> None:
    first_attempt = begin()
    Conversation.objects.update(lease_until=Now() - timedelta(seconds=1))
    heir = begin_turn(conversation, "Other")
    with pytest.raises(ApiError) as caught:
        first_attempt.complete(turn, "Hi", Usage())
    assert caught.value.code == "conversation_lost"
    first_attempt.give_up()
    heir.complete("Ho", Usage())
    assert isinstance(begin(), FirstAttempt)


def test_no_copy_of_the_answer_is_stored(begin: Any, turn: Turn) -> None:
    message = begin().complete(turn, "Secret words", Usage())
    assert IdempotencyKey.objects.get().body == {"id": str(message)}
    message.delete()
    with pytest.raises(NotFound):
        begin()


def test_an_empty_answer_comes_again_without_a_delta(begin: Any, turn: Turn) -> None:
    begin().complete(turn, "", Usage())
    again = begin()
    names = [event.split(b"\n")[0] for event in replay_events(find_question(again), again)]
    assert names == [b"event: question"]


def test_without_a_key_every_try_is_the_first(conversation: Conversation, turn: Turn) -> None:
    account_id = conversation.account_id
    first_attempt = begin_attempt(
        account_id=account_id, key=None, conversation=conversation, content="Hello"
    )
    assert isinstance(first_attempt, FirstAttempt)
    assert first_attempt.complete(turn, "Hi", Usage()).content == "Hi"
    first_attempt.give_up()
    assert not IdempotencyKey.objects.exists()
