"""URLs below /chains/ that LangServe's RemoteRunnable calls."""

from django.urls import path

from chat.langserve.views import (
    BatchView,
    ConfigSchemaView,
    InputSchemaView,
    InvokeView,
    NotServedView,
    OutputSchemaView,
    StreamView,
)

urlpatterns = [
    path("<slug:slug>/invoke", InvokeView.as_view()),
    path("<slug:slug>/batch", BatchView.as_view()),
    path("<slug:slug>/stream", StreamView.as_view()),
    path("<slug:slug>/input_schema", InputSchemaView.as_view()),
    path("<slug:slug>/output_schema", OutputSchemaView.as_view()),
    path("<slug:slug>/config_schema", ConfigSchemaView.as_view()),
    path("<slug:slug>/<str:endpoint>", NotServedView.as_view()),
]
