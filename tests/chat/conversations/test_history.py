"""The history of a conversation that a turn begins with."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models.functions import Now

from chat.models import Conversation, Message
from chat.running.run import Usage
from tests.chat.conversations.begun_turns import begin, conversation

__all__ = ["begin", "conversation"]


def test_the_history_is_its_last_completed_messages(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    for number in range(4):
        begin(f"q{number}").complete(f"a{number}", Usage())
    begin("lost").abandon("half", "provider_error")
    settings.CONVERSATION_HISTORY_MESSAGES = 6
    texts = [message.text for message in begin("now").history()]
    assert texts == ["q2", "a2", "q3", "a3", "lost", "now"]
    # A window that would open on an answer opens on the question after it.
    settings.CONVERSATION_HISTORY_MESSAGES = 5
    Conversation.objects.update(lease_until=Now())
    assert [m.text for m in begin("again").history()] == ["q3", "a3", "lost", "now", "again"]
    settings.CONVERSATION_HISTORY_MESSAGES = 1
    Conversation.objects.update(lease_until=Now())
    assert [m.text for m in begin("alone").history()] == ["alone"]


def test_the_history_is_the_newest_messages_that_fit(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_HISTORY_BYTES = 100
    begin("long ago").complete("é" * 30, Usage())
    begin("q" * 10).complete("a" * 20, Usage())

    def lengths(content: str) -> list[int]:
        turn = begin(content)
        found = [len(message.text) for message in turn.history()]
        turn.abandon("", "test")
        Message.objects.filter(pk=turn.question.pk).delete()
        return found

    # 10 are left; the answer before has 60 bytes, though 30 characters.
    assert lengths("n" * 60) == [10, 20, 60]
    assert lengths("n" * 10) == [10, 20, 10]
    assert lengths("n" * 2) == [8, 30, 10, 20, 2]
    # The answer of 20 would fit, its question would not: no history opens on an answer.
    assert lengths("n" * 71) == [71]
    # A question is never cut.
    assert lengths("n" * 101) == [101]


def test_no_message_is_read_that_the_history_does_not_hold(
    begin: Any, conversation: Conversation, settings: Any
) -> None:
    settings.CONVERSATION_HISTORY_BYTES = 1000
    Message.objects.bulk_create(
        Message(conversation=conversation, position=n, role="user", content="m" * 600)
        for n in range(1, 21)
    )
    turn = begin("now")
    sent: list[tuple[Any, Any]] = []

    def look(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        sent.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        assert [len(m.text) for m in turn.history()] == [600, 3]
    [(sql, params)] = sent
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        assert len(cursor.fetchall()) == 1


def test_the_history_of_a_conversation_that_was_deleted_is_its_question(
    begin: Any, conversation: Conversation
) -> None:
    turn = begin("Hello")
    Conversation.objects.filter(pk=conversation.pk).delete()
    assert [m.text for m in turn.history()] == ["Hello"]
