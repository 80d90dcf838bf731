"""What every API view of chains and conversations shares: a key, its limits, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.limits import Admission, admit
from access.permissions import HasScope
from access.principal import Principal
from chat.client_socket import ClientSocket
from chat.run import Run
from chat.sse import Events, SseResponse


class Ending:
    """What must happen when a request is over, whoever ends it; only the first call does it.

    A stream outlives its view: it keeps this, and not the view with all of the request.
    """

    __slots__ = ("admission", "also", "run")

    def __init__(self) -> None:
        self.admission: Admission | None = None
        self.run: Run | None = None
        self.also: Callable[[], None] | None = None

    def __call__(self) -> None:
        """Stop what still runs, count the tokens, and give the place back."""
        if self.run is not None:
            self.run.cancel()
        if self.admission is not None:
            if self.run is not None:
                self.admission.add_tokens(self.run.billed_tokens())
            self.admission.finish()
        if self.also is not None:
            self.also()
        self.run = self.admission = self.also = None

    def before_last(self, events: Events) -> Iterator[bytes]:
        """Yield a stream's events, and end the request before the last one.

        A client that has read the last event may send its next request at once, and must not find
        its own place among the concurrent requests still taken.
        """
        last = yield from events
        self()
        yield last


class ApiView(APIView):
    """A view for keys with the scope `chat`.

    A request is admitted once its key is known, and its admission ends with its answer: for a
    stream when the last byte is written. `is_model_call` takes a place among the key's concurrent
    requests.
    """

    permission_classes = [IsAuthenticated, HasScope]
    required_scope = "chat"
    is_model_call = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ending = Ending()

    @property
    def principal(self) -> Principal:
        """Whose key this request came with."""
        principal = self.request.user
        assert isinstance(principal, Principal)  # noqa: S101  (IsAuthenticated has seen to it)
        return principal

    @property
    def client(self) -> ClientSocket:
        """The connection that the answer goes to."""
        return ClientSocket(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, check the scope, and take a place within the key's limits."""
        super().initial(request, *args, **kwargs)
        # Reading never calls a model, also where posting to the same address does.
        is_model_call = self.is_model_call and request.method == "POST"
        self.ending.admission = admit(self.principal, is_model_call=is_model_call)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Tell the limits, and end the admission unless a stream is still to come."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if (admission := self.ending.admission) is not None:
            for name, value in admission.headers.items():
                final.headers.setdefault(name, value)
        is_stream: bool = isinstance(response, SseResponse)
        if not is_stream:
            self.ending()
        return final

    def stream_response(self, events: Events) -> SseResponse:
        """Return a streamed answer; the request ends with it."""
        return SseResponse(self.ending.before_last(events), on_close=self.ending)


class ModelCallView(ApiView):
    """A view that calls a chain."""

    is_model_call = True
