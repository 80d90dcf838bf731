"""Staff's view of conversations, which reads a bounded part of any number of messages."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Left
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from chat.models import Conversation, Message
from config.bounded_delete import BoundedDelete

SHOWN_MESSAGES = 50
# Of each text. A page of megabytes would be of no use.
SHOWN_CHARS = 2000


@admin.register(Conversation)
class ConversationAdmin(BoundedDelete):
    """Conversations, to read and to delete."""

    list_display = ["__str__", "account", "chain", "message_count", "created_at", "updated_at"]
    list_filter = ["chain"]
    list_select_related = ["account", "chain"]
    show_full_result_count = False
    search_fields = ["=id", "account__name"]
    readonly_fields = [
        "id", "account", "chain", "metadata", "created_at", "updated_at", "message_count",
        "last_messages",
    ]  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """Count the messages of the page's rows in the same query, each by one index lookup."""
        newest = Message.objects.filter(conversation=OuterRef("pk")).order_by("-position")
        # Positions count without a gap.
        count = Coalesce(Subquery(newest.values("position")[:1]), 0)
        rows: QuerySet[Conversation] = super().get_queryset(request)
        return rows.annotate(_messages=count)

    @admin.display(description="messages")
    def message_count(self, conversation: Conversation) -> int:
        """Show how many messages there are."""
        return conversation._messages  # type: ignore[attr-defined, no-any-return]

    @admin.display(description=f"last messages (at most {SHOWN_MESSAGES})")
    def last_messages(self, conversation: Conversation) -> SafeString:
        """Show the beginnings of the last messages, the oldest of them first."""
        rows = (
            Message.objects.filter(conversation=conversation)
            .defer("content")
            .annotate(shown=Left("content", SHOWN_CHARS + 1))
            .order_by("-position")[:SHOWN_MESSAGES]
        )
        return format_html(
            "<table><tr><th>#</th><th>role</th><th>status</th><th>content</th></tr>{}</table>",
            format_html_join(
                "",
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                (
                    (row.position, row.role, row.error_code or row.status, _cut(row.shown))
                    for row in reversed(rows)
                ),
            ),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Conversations come from the API alone."""
        return False


def _cut(text: str) -> str:
    return f"{text[:SHOWN_CHARS]}…" if len(text) > SHOWN_CHARS else text
