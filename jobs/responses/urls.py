"""Addresses below /v1/responses."""

from django.urls import path

from jobs.responses.views import ResponseCancelView, ResponsesView, ResponseView

urlpatterns = [
    path("responses", ResponsesView.as_view()),
    path("responses/<str:public_id>", ResponseView.as_view()),
    path("responses/<str:public_id>/cancel", ResponseCancelView.as_view()),
]
