"""Start and end a request's read context."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import OperationalError
from django.http import HttpRequest, HttpResponseBase
from psycopg_pool import PoolTimeout

from config.api.errors import error_response, to_api_error
from config.api.paths import API_PREFIXES
from scaling.connections import release_connections
from scaling.replicas import position, publishing
from scaling.replicas.read_context import start_request

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = logging.getLogger(__name__)


class ReplicaMiddleware:
    """Starts a new read context for each request, and publishes the position of its writes.

    The position is published before the answer is sent, and is in a header that a client may send
    with its next request. Where it cannot be read, the answer is 503 as for a commit whose
    connection broke: it may have been done. Requests without a key are pages, which read from the
    primary.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        context = start_request(is_admin=not request.path_info.startswith(API_PREFIXES))
        response = self.get_response(request)
        try:
            # An error acknowledges no write.
            is_success = response.status_code < 400
            publishing.publish_position(wait_seconds=publishing.WAIT_SECONDS if is_success else 0.0)
        except (OperationalError, PoolTimeout) as error:
            response.close()
            response = error_response(to_api_error(error))
        # Sending takes as long as the client reads, and a stream as long as its model.
        release_connections()
        if context.position is not None and request.method not in ("GET", "HEAD"):
            response.headers[position.HEADER] = str(context.position)
        if context.servers:
            servers = ", ".join(sorted(context.servers))
            logger.debug("%s was read from %s", request.path_info, servers)
        return response
