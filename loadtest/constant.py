"""The nodes' application with one more address, whose answer costs nothing: what a hit could be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from config.wsgi import application as headrace
from loadtest.constant_path import ANSWER, PATH
from node.pipeline import Pipeline

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BODY = b'{"answer":"%b"}' % ANSWER.encode()


def constant(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer the constant, or as ever."""
    if environ["PATH_INFO"] != PATH:
        return headrace(environ, start_response)
    environ["wsgi.input"].read()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]
    start_response("200 OK", headers)
    return [BODY]


application = Pipeline(constant, fast_path=headrace.fast_path, shedder=headrace.shedder)
