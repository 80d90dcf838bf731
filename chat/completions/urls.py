"""URLs below /v1/ that OpenAI's SDKs call."""

from django.urls import path

from chat.completions.views import ChatCompletionsView, ModelsView, ModelView

urlpatterns = [
    path("chat/completions", ChatCompletionsView.as_view()),
    path("models", ModelsView.as_view()),
    path("models/<slug:slug>", ModelView.as_view()),
]
