"""URLs below /v1/conversations."""

from django.urls import path

from chat.conversations.views import ConversationsView, ConversationView, MessagesView

urlpatterns = [
    path("conversations", ConversationsView.as_view()),
    path("conversations/<str:public_id>", ConversationView.as_view()),
    path("conversations/<str:public_id>/messages", MessagesView.as_view()),
]
