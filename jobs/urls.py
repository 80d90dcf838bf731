"""Addresses below /v1/jobs."""

from django.urls import path

from jobs.views import JobCancelView, JobEventsView, JobRetryView, JobsView, JobView

urlpatterns = [
    path("jobs", JobsView.as_view()),
    path("jobs/<str:public_id>", JobView.as_view()),
    path("jobs/<str:public_id>/cancel", JobCancelView.as_view()),
    path("jobs/<str:public_id>/retry", JobRetryView.as_view()),
    path("jobs/<str:public_id>/events", JobEventsView.as_view()),
]
