"""The admin's page "Database servers", and its buttons."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from config.env import env_str
from scaling.replicas import detachment, process_metrics, report, svg
from scaling.replicas.topology import TOPOLOGY

MAY_VIEW = "scaling.view_database_servers"
MAY_CHANGE = "scaling.change_database_servers"
NODE_NAME = env_str("NODE_NAME", "node")
WORK: dict[str, tuple[Callable[[str], None], str]] = {
    "detach": (detachment.detach, "detached"),
    "attach": (detachment.attach, "attached"),
}


def servers_page(request: HttpRequest) -> HttpResponse:
    """Show this process's state of the servers; queries none of them."""
    if not (request.user.has_perm(MAY_VIEW) or _may_change(request)):
        raise PermissionDenied
    servers = [TOPOLOGY.primary, *TOPOLOGY.replicas.values()]
    found = report.make(TOPOLOGY, process_metrics.own(servers))
    context = {
        **admin.site.each_context(request),
        "title": "Database servers",
        "process": f"{NODE_NAME}, process {os.getpid()},",
        "report": found,
        "picture": svg.draw(found),
        "chart": svg.draw_lag(list(TOPOLOGY.replicas.values()), now=time.time()),
        "now": timezone.now(),
        "detached": [server.name for server in TOPOLOGY.replicas.values() if server.is_detached],
        "may_change": _may_change(request),
    }
    return TemplateResponse(request, "admin/scaling/servers.html", context)


def change_page(request: HttpRequest, verb: str, name: str) -> HttpResponse:
    """Confirm (GET) and carry out (POST) that a replica is detached or attached."""
    if not _may_change(request):
        raise PermissionDenied
    if name not in detachment.replica_names():
        raise Http404
    if request.method != "POST":
        context = {
            **admin.site.each_context(request),
            "title": f"{verb.capitalize()} {name}?",
            "verb": verb,
            "name": name,
            "others": sum(
                server.is_in_rotation
                for server in TOPOLOGY.replicas.values()
                if server.name != name
            ),
        }
        return TemplateResponse(request, "admin/scaling/change_server.html", context)
    work, done = WORK[verb]
    try:
        work(name)
    except detachment.DetachmentError as error:
        messages.error(request, str(error))
    else:
        _log(request, name, f"{done.capitalize()}.")
        messages.success(request, f"{name} is {done}; all nodes apply it within a second.")
    return HttpResponseRedirect(reverse("database-servers"))


def _may_change(request: HttpRequest) -> bool:
    return request.user.has_perm(MAY_CHANGE)


def _log(request: HttpRequest, name: str, text: str) -> None:
    user_id = request.user.pk
    assert user_id is not None  # noqa: S101  (the admin's pages want a login)
    LogEntry.objects.create(
        user_id=user_id,
        object_repr=f"Database server {name}",
        action_flag=CHANGE,
        change_message=text,
    )
