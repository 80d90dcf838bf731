"""What every API view of chains and conversations shares: a key, its limits, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.limits import STREAMS, Admission, Slot, admit
from access.permissions import HasScope
from access.principal import Principal
from chat.caching.cache_key import Bypass, CacheDecision, read_directives
from chat.caching.cache_status import bypass_headers
from chat.caching.read_cache import read
from chat.caching.streams import Record, Replay, find_stream, record
from chat.caching.unary import settle_failure
from chat.running import sse
from chat.running.client_socket import ClientSocket
from chat.running.execution import Call, Chunk, Heartbeat, stream
from chat.running.run import Caller, Run, current_caller
from chat.running.sse import Events, SseResponse
from config.api.errors import InvalidRequest, is_database_down
from scaling.replicas import routing
from scaling.replicas.position import Position
from scaling.response_cache.policy import CachePolicy


class Ending:
    """What must happen when a request is over, whoever ends it; only the first call does it.

    A stream outlives its view: it keeps this, and not the view with all of the request.
    """

    __slots__ = ("admission", "also", "run", "slot")

    def __init__(self) -> None:
        self.admission: Admission | None = None
        self.run: Run | None = None
        self.also: Callable[[], None] | None = None
        # Of the streams that this process has open.
        self.slot: Slot | None = None

    def __call__(self) -> None:
        """Stop what still runs, count the tokens, and release what the request holds."""
        if self.run is not None:
            self.run.cancel()
        if self.admission is not None:
            if self.run is not None:
                self.admission.add_tokens(self.run.billed_tokens())
            self.admission.finish()
        if self.also is not None:
            self.also()
        if self.slot is not None:
            self.slot.release()
        self.run = self.admission = self.also = self.slot = None
        # A stream's own writes; a view's are recorded by the middleware.
        routing.record()

    def before_last(self, events: Events) -> Iterator[bytes]:
        """Yield a stream's events, and end the request before the last one.

        A client that has read the last event may send its next request at once, and must not find
        its own place among the concurrent requests still taken.
        """
        last = yield from events
        self()
        # If this raises, the stream breaks off, and what was committed is not acknowledged.
        routing.record(wait_seconds=routing.WAIT_SECONDS)
        yield last


class ApiView(APIView):
    """A view for keys with the scope `chat`.

    A request is admitted once its key is known, and its admission ends with its answer: for a
    stream when the last byte is written. `is_model_call` takes a place among the key's concurrent
    requests. `cache_policy` says whether `answer_read` keeps what it returns.
    """

    cache_policy = CachePolicy()
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
        """Authenticate, check the scope, and admit the request."""
        super().initial(request, *args, **kwargs)
        self.admit(request)

    def admit(self, request: Request) -> None:
        """Take the request's share of its key's limits, and bind its reads and calls to its caller.

        Subclasses override it where a request uses other limits. Raises LimitExceeded (429), and
        InvalidRequest for a position that is none.
        """
        # Reading never calls a model, also where posting to the same address does.
        is_model_call = self.is_model_call and request.method == "POST"
        self.ending.admission = admit(self.principal, is_model_call=is_model_call)
        self.begin_reading(request)
        directives = read_directives(request.headers.get("Cache-Control", ""))
        current_caller.set(
            Caller(
                account_id=self.principal.account_id,
                reads_kept=not directives & {"no-cache", "no-store"},
                keeps="no-store" not in directives,
                # No account chooses the answers of others by asking until one pleases it.
                keeps_shared=not directives & {"no-cache", "no-store"},
            )
        )

    def begin_reading(self, request: Request) -> None:
        """Have what this request writes recorded as its account's, and its reads follow that."""
        reader = routing.current_reader()
        if reader is None:
            return
        try:
            text = request.headers.get(routing.HEADER, "")
            floor = Position.parse(text) if text else None
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param=routing.HEADER) from error
        reader.serve(
            self.principal.account_id.hex,
            reads_replicas=request.method in ("GET", "HEAD"),
            floor=floor,
        )

    def handle_exception(self, exc: Exception) -> Response:
        """Read again from another server what could not be read from a replica."""
        reader = routing.current_reader()
        is_read = self.request.method in ("GET", "HEAD")
        method = str(self.request.method).lower()
        while is_read and is_database_down(exc) and reader is not None and reader.can_repeat():
            try:
                response: Response = getattr(self, method)(self.request, *self.args, **self.kwargs)
            # Whatever it is now, it is this view's answer.
            except Exception as error:
                exc = error
            else:
                return response
        return super().handle_exception(exc)

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

    def answer_read(self, subject: str, make: Callable[[], Any]) -> Response:
        """Return what `make` reads from the database about a subject, or what it read lately."""
        body, headers = read(
            make,
            policy=self.cache_policy,
            subject=subject,
            account_id=self.principal.account_id,
            path=self.request.get_full_path(),
            cache_control=self.request.headers.get("Cache-Control", ""),
        )
        return Response(body, headers=headers)

    def begin_stream(self) -> None:
        """Hold one of the streams that the caller may have open, and of its concurrent requests.

        Call it before there is anything to undo. The second time does nothing. Raises
        BudgetExceeded and LimitExceeded (429), and NodeBudgetExceeded (503).
        """
        if self.ending.slot is None:
            self.ending.slot = STREAMS.take(self.principal)
        self.take_slot()

    def take_slot(self) -> None:
        """Hold one of the key's concurrent requests until the answer has ended."""
        if self.ending.admission is not None:
            self.ending.admission.take_slot(self.principal.limits)

    def stream_response(
        self, events: Events, *, headers: Mapping[str, str] | None = None
    ) -> SseResponse:
        """Return a streamed answer; the request ends with it."""
        self.begin_stream()
        response = SseResponse(self.ending.before_last(events), on_close=self.ending)
        for name, value in (headers or {}).items():
            response[name] = value
        return response


class ModelCallView(ApiView):
    """A view that calls a chain."""

    is_model_call = True

    def answer_stream(
        self,
        call: Call,
        decision: CacheDecision,
        *,
        to_events: Callable[[Call, sse.BegunStream[Chunk | Heartbeat]], Events],
        closing: bytes,
        volatile_texts: Callable[[bytes], tuple[str, ...]],
        new_ids: Callable[[], tuple[bytes, ...]],
    ) -> SseResponse:
        """Return a streamed answer: replayed, or recorded while the chain makes it.

        `closing` is the last event of a complete stream; `volatile_texts` finds the texts in one
        that differ in every response, for which `new_ids` returns others.
        """
        self.begin_stream()
        match find_stream(decision, new_ids):
            case Replay(events=events, headers=headers):
                return self.stream_response(events, headers=headers)
            case Bypass(reason=reason):
                items = sse.BegunStream(stream(call, self.client))
                return self.stream_response(to_events(call, items), headers=bypass_headers(reason))
            case Record() as recording:
                return self._record_stream(call, recording, to_events, closing, volatile_texts)

    def _record_stream(
        self,
        call: Call,
        recording: Record,
        to_events: Callable[[Call, sse.BegunStream[Chunk | Heartbeat]], Events],
        closing: bytes,
        volatile_texts: Callable[[bytes], tuple[str, ...]],
    ) -> SseResponse:
        try:
            items = sse.BegunStream(stream(call, self.client))
        except BaseException as error:
            settle_failure(recording.lead, error)
            raise
        events = record(
            to_events(call, items),
            recording,
            call.run,
            closing=closing,
            volatile_texts=volatile_texts,
        )
        return self.stream_response(events, headers=recording.headers)
