"""Who may add to a conversation, and for how long, on the database alone."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import gevent
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from chat.conversations import services, statements
from chat.conversations.turns import Turn, begin_turn
from chat.models import Conversation, Message
from chat.running.run import Usage
from config.api.errors import ApiError, NotFound
from scaling.replicas.backend.cursors import casts_all
from tests.chat.conversations.begun_turns import begin, contents, conversation
from tests.support.waiting import eventually, slack

__all__ = ["begin", "conversation"]


def test_a_turn_is_a_question_and_its_answer(begin: Any, conversation: Conversation) -> None:
    usage = Usage()
    usage.add(prompt_tokens=3, completion_tokens=4)
    answer = begin("Hello").complete("Hi", usage)
    assert contents(conversation) == [(1, "user", "Hello"), (2, "assistant", "Hi")]
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 4)
    conversation.refresh_from_db()
    assert conversation.lease_token is None
    assert conversation.lease_until is None


@pytest.mark.parametrize(
    ("sent", "stored"), [("half \ud83d", "half \ufffd"), ("a\0b", "ab")], ids=["surrogate", "NUL"]
)
def test_an_answer_that_postgresql_cannot_store_is_mended_and_frees_the_conversation(
    begin: Any, conversation: Conversation, sent: str, stored: str
) -> None:
    begin("First").complete(sent, Usage())
    begin("Second").abandon(sent, "provider_error")
    begin("Third").complete("Answer", Usage())
    assert [content for _, _, content in contents(conversation)] == [
        "First",
        stored,
        "Second",
        stored,
        "Third",
        "Answer",
    ]


def test_while_a_turn_runs_another_is_refused(begin: Any, conversation: Conversation) -> None:
    begin("First")
    with pytest.raises(ApiError) as caught:
        begin("Second")
    assert caught.value.status == 409
    assert caught.value.retry_after_seconds
    assert contents(conversation) == [(1, "user", "First")]


def test_the_lease_of_a_dead_node_runs_out(begin: Any, conversation: Conversation) -> None:
    dead = begin("First")
    Conversation.objects.update(lease_until=Now())
    begin("Second").complete("Answer", Usage())
    # The dead node was only frozen, and comes back with its answer.
    with pytest.raises(ApiError) as caught:
        dead.complete("Late", Usage())
    assert caught.value.status == 409
    assert caught.value.should_retry is False
    assert [content for _, _, content in contents(conversation)] == ["First", "Second", "Answer"]


def test_what_a_thawed_holder_gives_up_does_not_free_the_next_ones_turn(
    begin: Any, conversation: Conversation
) -> None:
    thawed = begin("First")
    Conversation.objects.update(lease_until=Now())
    holder = begin("Second")
    thawed.abandon("partial", "client_closed_request")
    with pytest.raises(ApiError):
        begin("Third")
    holder.complete("Answer", Usage())
    assert [content for _, _, content in contents(conversation)] == ["First", "Second", "Answer"]


def test_a_living_nodes_lease_does_not_run_out(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_LEASE_SECONDS = 0.6
    turn = begin("First")
    gevent.sleep(1.0)
    with pytest.raises(ApiError):
        begin("Second")
    turn.complete("Answer", Usage())
    gevent.sleep(0.3)
    conversation.refresh_from_db()
    assert conversation.lease_until is None


def test_an_abandoned_turn_keeps_what_had_come(begin: Any, conversation: Conversation) -> None:
    begin("First").abandon("Half an ans", "provider_error")
    partial = Message.objects.get(position=2)
    assert partial.status == Message.Status.INCOMPLETE
    assert partial.error_code == "provider_error"
    begin("Second").abandon("", "provider_error")
    begin("Third").complete("Whole", Usage())
    assert [position for position, _, _ in contents(conversation)] == [1, 2, 3, 4, 5]


def test_the_end_of_a_turn_is_its_end(begin: Any, conversation: Conversation) -> None:
    turn = begin("First")
    turn.complete("Answer", Usage())
    turn.abandon("more", "client_closed_request")
    assert len(contents(conversation)) == 2


def test_abandoning_never_raises(begin: Any, conversation: Conversation) -> None:
    turn = begin("First")
    Conversation.objects.filter(pk=conversation.pk).delete()
    turn.abandon("partial", "client_closed_request")
    assert Message.objects.count() == 0


def test_a_deleted_conversation_is_not_found(begin: Any, conversation: Conversation) -> None:
    Conversation.objects.filter(pk=conversation.pk).delete()
    with pytest.raises(NotFound):
        begin("First")


def test_positions_count_without_a_gap_by_the_databases_lock(
    begin: Any, conversation: Conversation
) -> None:
    for number in range(3):
        begin(str(number)).complete("a", Usage())
    assert [position for position, _, _ in contents(conversation)] == list(range(1, 7))


def test_waiting_gives_up_when_its_time_is_over(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_BUSY = "wait"
    settings.CONVERSATION_WAIT_SECONDS = 0.5
    begin("First")
    started = time.monotonic()
    with pytest.raises(ApiError) as caught:
        begin("Second")
    assert caught.value.code == "conversation_busy"
    assert 0.5 <= time.monotonic() - started < slack(1.5)


@pytest.mark.django_db(transaction=True)
def test_with_waiting_two_at_once_are_answered_one_after_the_other(
    conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_BUSY = "wait"
    settings.CONVERSATION_WAIT_SECONDS = 10.0
    failures: list[BaseException] = []

    def talk(name: str) -> None:
        try:
            turn = begin_turn(conversation, f"question {name}")
            time.sleep(0.1)
            turn.complete(f"answer {name}", Usage())
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    kept = [content for _, _, content in contents(conversation)]
    assert len(kept) == 6
    for question, answer in zip(kept[::2], kept[1::2], strict=True):
        assert question.removeprefix("question ") == answer.removeprefix("answer ")


@pytest.mark.django_db(transaction=True)
def test_of_many_that_begin_at_once_one_is_let_in(conversation: Conversation) -> None:
    turns_begun: list[Turn] = []
    refused: list[int] = []
    barrier = threading.Barrier(8)

    def talk() -> None:
        barrier.wait()
        try:
            turns_begun.append(begin_turn(conversation, "Me"))
        except ApiError as error:
            refused.append(error.status)
        finally:
            connection.close()

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(turns_begun) == 1
    assert refused == [409] * 7
    turns_begun[0].complete("You", Usage())


def test_the_lease_is_by_the_databases_clock(
    begin: Any, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin("First")
    # This node's clock is a day ahead; the conversation is taken all the same.
    tomorrow = timezone.now() + timedelta(days=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    with pytest.raises(ApiError):
        begin("Second")


def test_a_conversation_has_no_more_messages_than_it_may(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_MAX_MESSAGES = 4
    for _ in range(2):
        begin("q").complete("a", Usage())
    with pytest.raises(ApiError, match="CONVERSATION_MAX_MESSAGES") as caught:
        begin("one more")
    assert (caught.value.status, caught.value.code) == (429, "too_many_messages")
    assert len(contents(conversation)) == 4
    conversation.refresh_from_db()
    assert conversation.lease_token is None
    settings.CONVERSATION_MAX_MESSAGES = 0
    begin("one more").complete("a", Usage())
    assert len(contents(conversation)) == 6


def test_an_account_has_no_more_conversations_than_it_may(
    conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_ACCOUNT_MAX = 1
    services.STORED.forget(conversation.account_id)

    def create() -> Conversation:
        return services.create_conversation(
            account_id=conversation.account_id, chain_slug="turns", metadata={}
        )

    with pytest.raises(ApiError, match="CONVERSATION_ACCOUNT_MAX") as caught:
        create()
    assert (caught.value.status, caught.value.code) == (429, "too_many_conversations")
    services.delete_conversation(account_id=conversation.account_id, public_id=str(conversation))
    assert create().pk
    services.STORED.forget(conversation.account_id)


@pytest.mark.django_db(transaction=True)
def test_a_turn_that_waits_for_a_late_one_comes_after_its_answer(
    conversation: Conversation,
) -> None:
    first = begin_turn(conversation, "q1")
    # As of a node that was frozen: its lease is over, and its answer is on the way.
    Conversation.objects.update(lease_until=Now() - timedelta(seconds=1))
    begun: list[Turn] = []

    def begin_next() -> None:
        try:
            begun.append(begin_turn(conversation, "q2"))
        finally:
            connection.close()

    with transaction.atomic():
        first.complete("a1", Usage())
        thread = threading.Thread(target=begin_next)
        thread.start()
        _wait_for_a_lock()
    thread.join()
    [second] = begun
    assert second.question.position == 3
    assert [message.text for message in second.history()] == ["q1", "a1", "q2"]
    second.complete("a2", Usage())
    assert [content for _, _, content in contents(conversation)] == ["q1", "a1", "q2", "a2"]


@pytest.mark.django_db(transaction=True)
def test_a_long_question_and_a_long_answer_are_stored_as_they_are(
    conversation: Conversation,
) -> None:
    question, answer = "q'\\%s\n" * 100_000, "a'\\%(id)s\n" * 100_000
    begin_turn(conversation, question).complete(answer, Usage())
    assert [content for _, _, content in contents(conversation)] == [question, answer]


def test_long_texts_are_sent_beside_each_statement_that_stores_them() -> None:
    for statement in (statements.BEGIN, statements.COMPLETE):
        assert casts_all(statement)


def _wait_for_a_lock() -> None:
    """Wait until a statement waits for a row that another transaction has locked."""

    def is_waiting() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(cursor.fetchone()[0])

    eventually(is_waiting, seconds=20, what="a statement waits for a lock")
