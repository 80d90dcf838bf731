"""Begin and end what a request reads and writes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import OperationalError
from django.http import HttpRequest, HttpResponseBase
from psycopg_pool import PoolTimeout

from config.api.errors import error_response, to_api_error
from config.api.paths import API_PREFIXES
from scaling.connections import release_connections
from scaling.replicas import routing

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = logging.getLogger(__name__)

# Where keys stand for accounts. All else is pages, which read from the primary.


class ReplicaMiddleware:
    """Forget what an earlier request of this connection wrote, and record what this one did.

    The position of what was written is recorded before anybody is answered, and told in a header
    that a client may send with its next request. Where it cannot be learnt, the answer is 503 as
    for a commit whose connection broke: it may have been done.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        reader = routing.begin(is_page=not request.path_info.startswith(API_PREFIXES))
        response = self.get_response(request)
        try:
            # Nobody takes an error for a promise.
            is_told = response.status_code < 400
            routing.record(wait_seconds=routing.WAIT_SECONDS if is_told else 0.0)
        except (OperationalError, PoolTimeout) as error:
            response.close()
            response = error_response(to_api_error(error))
        # Sending may take as long as the client wants, and a stream as long as its model.
        release_connections()
        if reader.position is not None and request.method not in ("GET", "HEAD"):
            response.headers[routing.HEADER] = str(reader.position)
        if reader.servers:
            servers = ", ".join(sorted(reader.servers))
            logger.debug("%s was read from %s", request.path_info, servers)
        return response
