"""Addresses below /v1/webhook_secret."""

from django.urls import path

from jobs.notifications.views import WebhookSecretRotateView, WebhookSecretView

urlpatterns = [
    path("webhook_secret", WebhookSecretView.as_view()),
    path("webhook_secret/rotate", WebhookSecretRotateView.as_view()),
]
