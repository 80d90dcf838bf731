"""Every address that Headrace answers."""

from django.contrib import admin
from django.urls import include, path
from django_prometheus.exports import ExportToDjangoView

from access.logins.change import password_change
from access.logins.page import login
from config.api import schema_pages
from fleet.autoscale.page import autoscaler_page
from node import health

handler400 = "config.api.errors.bad_request"
handler403 = "config.api.errors.permission_denied"
handler404 = "config.api.errors.not_found"
handler500 = "config.api.errors.server_error"

# Where the admin's "View site" leads.
admin.site.site_url = "/docs"

urlpatterns = [
    path("v1/", include("chat.completions.urls")),
    path("v1/", include("chat.conversations.urls")),
    path("v1/", include("jobs.urls")),
    path("v1/", include("jobs.notifications.urls")),
    path("v1/", include("jobs.responses.urls")),
    path("chains/", include("chat.langserve.urls")),
    path("v1/schema", schema_pages.schema, name="schema"),
    path("docs", schema_pages.docs, name="docs"),
    path("docs/script.js", schema_pages.docs_script, name="docs-script"),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("metrics", ExportToDjangoView),
    # Before the admin's own, which end in a page for what is not found.
    path("admin/database-servers/", include("scaling.replicas.urls")),
    path("admin/autoscaler/", admin.site.admin_view(autoscaler_page), name="autoscaler"),
    path("admin/login/", login),
    path("admin/password_change/", admin.site.admin_view(password_change, cacheable=True)),
    path("admin/", admin.site.urls),
]
