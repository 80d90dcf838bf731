"""A conversation and its turns, on the database alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from access.models import Account
from chat.conversations.turns import Turn, begin_turn
from chat.models import Chain, Conversation, Message


@pytest.fixture
def conversation(db: None) -> Conversation:
    """A conversation without messages."""
    account, _ = Account.objects.get_or_create(name="turns")
    chain, _ = Chain.objects.get_or_create(slug="turns", defaults={"runnable": "assistant"})
    return Conversation.objects.create(account=account, chain=chain)


@pytest.fixture
def begin(conversation: Conversation) -> Iterator[Any]:
    """`begin_turn` on the conversation; what a test leaves open is closed."""
    begun: list[Turn] = []

    def begin(content: str = "Hello") -> Turn:
        turn = begin_turn(conversation, content)
        begun.append(turn)
        return turn

    yield begin
    for turn in begun:
        turn.abandon("", "test")


def contents(conversation: Conversation) -> list[tuple[int, str, str]]:
    """Return position, role and content of the stored messages."""
    rows = Message.objects.filter(conversation=conversation).order_by("position")
    return [(row.position, row.role, row.content) for row in rows]
