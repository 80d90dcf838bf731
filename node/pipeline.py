"""The layers that a request passes in front of Django."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import gevent
from django.conf import settings

from node.load_shedding import LoadShedder
from node.open_requests import OpenRequestsLayer
from node.page_slots import Pages, PageSlots
from node.request_bodies import RequestBodies
from node.shedding_layer import LoadSheddingLayer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from node.fast_path import Handler


class EdgeLayer(Protocol):
    """A layer that answers cached requests, also those that gunicorn has not parsed."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or pass the request on."""

    @property
    def handle(self) -> Handler:
        """The handler of requests that gunicorn has not parsed."""


class Pipeline:
    """A WSGI application, and the layers that gunicorn's worker uses itself.

    `fast_path` handles requests that gunicorn has not parsed; `shedder` is None when the node sheds
    no load.
    """

    def __init__(
        self,
        application: WSGIApplication,
        *,
        fast_path: Handler | None = None,
        shedder: LoadShedder | None = None,
    ) -> None:
        self.application = application
        self.fast_path = fast_path
        self.shedder = shedder

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        return self.application(environ, start_response)


def build(
    django: WSGIApplication, *, new_edge: Callable[[WSGIApplication], EdgeLayer] | None
) -> Pipeline:
    """Return the layers.

    Load shedding, open requests, request bodies, cached responses, page slots, Django.
    """
    pages = Pages(django, _new_page_slots)
    edge = new_edge(pages) if new_edge is not None else None
    bodies = OpenRequestsLayer(RequestBodies(edge or pages))
    hits = edge.handle if edge is not None else None
    if not settings.OVERLOAD_DELAY_SECONDS:
        return Pipeline(bodies, fast_path=hits)
    shedder = LoadShedder(target_seconds=settings.OVERLOAD_DELAY_SECONDS)
    gevent.spawn(shedder.run)
    shedding = LoadSheddingLayer(bodies, shedder, hits)
    return Pipeline(shedding, fast_path=shedding.handle, shedder=shedder)


def _new_page_slots() -> PageSlots:
    return PageSlots(
        concurrency=settings.PAGE_CONCURRENCY,
        queue=settings.PAGE_QUEUE,
        wait_seconds=settings.PAGE_WAIT_SECONDS,
        cpu_share=settings.PAGE_CPU_SHARE,
    )
