"""Create, list and change conversations; each belongs to an account."""

import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Func, IntegerField, Q, QuerySet, Sum, Window
from django.db.models.functions import Now, RowNumber

from access.limits.stored import StoredLimit
from chat.chains.catalog import find_chain
from chat.conversations import statements
from chat.errors import ChainNotFound
from chat.models import Conversation, Message
from config.api.errors import InvalidRequest, NotFound
from config.api.ids import from_public_id
from config.api.pagination import Cursor
from scaling.response_cache.invalidation import invalidated_while

PREFIX = "conv"
MESSAGE_PREFIX = "msg"


class ByteLength(Func):
    """The bytes of a text, which PostgreSQL returns without reading the text."""

    function = "octet_length"
    output_field = IntegerField()


def subject_of(conversation_id: uuid.UUID) -> str:
    """Return the subject of cached reads of a conversation and its messages."""
    return f"conversation:{conversation_id.hex}"


def conversation_id_of(public_id: str) -> uuid.UUID:
    """Return the UUID in a public id; raises NotFound."""
    return _conversation_id(public_id)


def read_subject(public_id: str) -> str:
    """Return the same for an id from outside; raises NotFound."""
    return subject_of(_conversation_id(public_id))


def create_conversation(
    *, account_id: uuid.UUID, chain_slug: str, metadata: dict[str, str]
) -> Conversation:
    """Start a conversation with an enabled chain; raises ChainNotFound and StoredExceeded."""
    chain = find_chain(chain_slug)
    if chain is None:
        raise ChainNotFound(chain_slug, param="chain")
    STORED.check(account_id)
    return Conversation.objects.create(account_id=account_id, chain=chain, metadata=metadata)


def get_conversation(*, account_id: uuid.UUID, public_id: str) -> Conversation:
    """Return an account's conversation with its chain; another's raises NotFound."""
    conversation = _owned(account_id).filter(pk=_conversation_id(public_id)).first()
    if conversation is None:
        raise _not_found()
    return conversation


def find_chain_slug(*, account_id: uuid.UUID, conversation_id: uuid.UUID) -> str:
    """Return the slug of the chain of an account's conversation; another's raises NotFound.

    For a request that writes: it is read from the primary.
    """
    rows = statements.fetch(statements.CHAIN, conversation=conversation_id, account=account_id)
    if not rows:
        raise _not_found()
    return str(rows[0][0])


def list_conversations(*, account_id: uuid.UUID, cursor: Cursor) -> list[Conversation]:
    """Return a page of an account's conversations, and one row more if there are more."""
    rows = _owned(account_id)
    if cursor.after:
        after = _conversation_id(cursor.after)
        rows = rows.filter(pk__lt=after) if cursor.is_descending else rows.filter(pk__gt=after)
    return list(rows.order_by("-pk" if cursor.is_descending else "pk")[: cursor.limit + 1])


def replace_metadata(conversation: Conversation, metadata: dict[str, str]) -> None:
    """Save new metadata, and nothing else: a reply may be under way.

    Raises NotFound if the conversation was deleted since.
    """
    conversation.metadata = metadata
    with invalidated_while([subject_of(conversation.pk)]):
        changed = Conversation.objects.filter(pk=conversation.pk).update(
            metadata=metadata, updated_at=Now()
        )
    if not changed:
        raise _not_found()


def delete_conversation(*, account_id: uuid.UUID, public_id: str) -> None:
    """Delete a conversation with its messages; a reply under way is lost with it."""
    conversation_id = _conversation_id(public_id)
    with invalidated_while([subject_of(conversation_id)]):
        deleted, _ = Conversation.objects.filter(account_id=account_id, pk=conversation_id).delete()
    if not deleted:
        raise _not_found()
    STORED.forget(account_id)


@dataclass(frozen=True, kw_only=True)
class MessagePage:
    """A page of a conversation's messages, and whether there are more."""

    rows: list[Message]
    has_more: bool


def list_messages(*, conversation: Conversation, cursor: Cursor) -> MessagePage:
    """Return a page, which ends before its texts have more than MAX_LIST_BYTES together.

    One message is always in it, if there is one.
    """
    rows = Message.objects.filter(conversation=conversation)
    if cursor.after:
        try:
            after = rows.values_list("position", flat=True).get(
                pk=from_public_id(MESSAGE_PREFIX, cursor.after)
            )
        except (Message.DoesNotExist, NotFound) as error:
            raise InvalidRequest("after names no message of this list.", param="after") from error
        is_after = {"position__lt" if cursor.is_descending else "position__gt": after}
        rows = rows.filter(**is_after)
    order = "-position" if cursor.is_descending else "position"
    sized = _sized(rows, order=order, count=cursor.limit + 1).annotate(
        number=Window(RowNumber(), order_by=order), found=Window(Count("*"))
    )
    fits = Q(number=1) | Q(bytes_so_far__lte=settings.MAX_LIST_BYTES)
    # The row that only shows that there are more is not sent.
    found: list[Any] = list(sized.filter(fits, number__lte=cursor.limit).order_by(order))
    return MessagePage(rows=found, has_more=bool(found) and found[0].found > len(found))


def _sized(rows: QuerySet[Message], *, order: str, count: int) -> QuerySet[Any]:
    """Return the first `count` of `rows`, each with the bytes of its text and of those before."""
    first = rows.order_by(order).values("pk")[:count]
    return Message.objects.filter(pk__in=first).annotate(
        bytes_so_far=Window(Sum(ByteLength("content")), order_by=order)
    )


def _owned(account_id: uuid.UUID) -> QuerySet[Conversation]:
    return Conversation.objects.filter(account_id=account_id).select_related("chain")


STORED = StoredLimit(
    "conversations",
    setting="CONVERSATION_ACCOUNT_MAX",
    rows=lambda account_id: Conversation.objects.filter(account_id=account_id),
)


def _conversation_id(public_id: str) -> uuid.UUID:
    try:
        return from_public_id(PREFIX, public_id)
    except NotFound as error:
        raise _not_found() from error


def _not_found() -> NotFound:
    return NotFound("There is no such conversation.", code="conversation_not_found")
