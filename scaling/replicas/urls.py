"""URLs of the admin's page "Database servers"."""

from django.contrib import admin
from django.urls import path, re_path

from scaling.replicas import page

urlpatterns = [
    path("", admin.site.admin_view(page.servers_page), name="database-servers"),
    re_path(
        r"^(?P<verb>detach|attach)/(?P<name>[a-z0-9_-]{1,40})/$",
        admin.site.admin_view(page.change_page),
        name="database-server-change",
    ),
]
