"""The base of all API views: authentication, limits, and the end of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.http import HttpRequest
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
from chat.running.execution import Call, Chunks, Heartbeat, stream
from chat.running.run import Caller, Run, current_caller
from chat.running.sse import Events, SseResponse
from config.api.errors import InvalidRequest, is_database_down
from scaling.replicas import position, publishing
from scaling.replicas.position import Position
from scaling.replicas.read_context import current_context
from scaling.response_cache.policy import CachePolicy


class RequestLifecycle:
    """The resources of a request until it ends: its admission, its run, its slot of open streams.

    A stream outlives its view: it refers to this, and not to the view with all of the request.
    """

    __slots__ = ("admission", "on_end", "run", "slot")

    def __init__(self) -> None:
        self.admission: Admission | None = None
        self.run: Run | None = None
        self.on_end: Callable[[], None] | None = None
        # One of the streams that this process may have open.
        self.slot: Slot | None = None

    def end(self) -> None:
        """Cancel the run, count the tokens, and release all slots; only the first call does so."""
        if self.run is not None:
            self.run.cancel()
        if self.admission is not None:
            if self.run is not None:
                self.admission.add_tokens(self.run.billed_tokens())
            self.admission.finish()
        if self.on_end is not None:
            self.on_end()
        if self.slot is not None:
            self.slot.release()
        self.run = self.admission = self.on_end = self.slot = None
        # A stream's own writes; the middleware records a view's.
        publishing.publish_position()

    def end_before_last_event(self, events: Events) -> Iterator[bytes]:
        """Yield a stream's events, and end the request before the last one.

        A client that has read the last event may send its next request at once, and must not find
        its own concurrency slot still taken.
        """
        last = yield from events
        self.end()
        # If this raises, the stream breaks off, and no commit is acknowledged.
        publishing.publish_position(wait_seconds=publishing.WAIT_SECONDS)
        yield last


class ApiView(APIView):
    """A view for keys with the scope `chat`.

    A request is admitted once it is authenticated, and its admission ends with its answer: for a
    stream when the last byte is written. `is_model_call` takes one of the key's concurrency slots.
    `cache_policy` is the policy of `answer_read`.
    """

    cache_policy = CachePolicy()
    permission_classes = [IsAuthenticated, HasScope]
    required_scope = "chat"
    is_model_call = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lifecycle = RequestLifecycle()

    @property
    def principal(self) -> Principal:
        """The owner of the request's key."""
        principal = self.request.user
        assert isinstance(principal, Principal)  # noqa: S101  (IsAuthenticated has seen to it)
        return principal

    @property
    def client(self) -> ClientSocket:
        """The connection that the answer goes to."""
        return ClientSocket(self.request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, check the scope, and admit the request; OPTIONS needs no key."""
        if request.method == "OPTIONS":
            return
        super().initial(request, *args, **kwargs)
        self.admit(request)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Return the methods of the address in `Allow`, which REST framework adds."""
        return Response(status=204)

    def admit(self, request: Request) -> None:
        """Take the request's share of its key's limits, and bind its reads and calls to its caller.

        Subclasses override it where a request uses other limits. Raises LimitExceeded (429), and
        InvalidRequest for a position that is none.
        """
        # Reading never calls a model, also where posting to the same address does.
        is_model_call = self.is_model_call and request.method == "POST"
        self.lifecycle.admission = admit(self.principal, is_model_call=is_model_call)
        self.begin_reading(request)
        directives = read_directives(request.headers.get("Cache-Control", ""))
        current_caller.set(
            Caller(
                account_id=self.principal.account_id,
                reads_cached=not directives & {"no-cache", "no-store"},
                stores="no-store" not in directives,
                # No account chooses the answers of others by repeating a request.
                stores_shared=not directives & {"no-cache", "no-store"},
            )
        )

    def begin_reading(self, request: Request) -> None:
        """Bind the request's reads and writes to its account (read-your-writes)."""
        read_context = current_context()
        if read_context is None:
            return
        try:
            text = request.headers.get(position.HEADER, "")
            min_position = Position.parse(text) if text else None
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param=position.HEADER) from error
        read_context.bind_account(
            self.principal.account_id.hex,
            reads_replicas=request.method in ("GET", "HEAD"),
            min_position=min_position,
        )

    def handle_exception(self, exc: Exception) -> Response:
        """Repeat a read that failed on a replica, on another server."""
        read_context = current_context()
        is_read = self.request.method in ("GET", "HEAD")
        method = str(self.request.method).lower()
        while (
            is_read
            and is_database_down(exc)
            and read_context is not None
            and read_context.can_repeat()
        ):
            try:
                response: Response = getattr(self, method)(self.request, *self.args, **self.kwargs)
            # Any error now is this view's answer.
            except Exception as error:
                exc = error
            else:
                return response
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Add the limits' headers, and end the request unless a stream is still to come."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if (admission := self.lifecycle.admission) is not None:
            for name, value in admission.headers.items():
                final.headers.setdefault(name, value)
        is_stream: bool = isinstance(response, SseResponse)
        if not is_stream:
            self.lifecycle.end()
        return final

    def answer_read(self, subject: str, make: Callable[[], Any]) -> Response:
        """Return the body that `make` reads about a subject, or a cached one."""
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
        """Take one of the streams that the caller may have open, and a concurrency slot.

        Call it before there is anything to undo. A second call does nothing. Raises
        BudgetExceeded and LimitExceeded (429), and NodeBudgetExceeded (503).
        """
        if self.lifecycle.slot is None:
            self.lifecycle.slot = STREAMS.take(self.principal)
        self.take_slot()

    def take_slot(self) -> None:
        """Take one of the key's concurrency slots until the answer has ended."""
        if self.lifecycle.admission is not None:
            self.lifecycle.admission.take_slot(self.principal.limits)

    def stream_response(
        self, events: Events, *, headers: Mapping[str, str] | None = None
    ) -> SseResponse:
        """Return a streamed answer; the request ends with it."""
        self.begin_stream()
        response = SseResponse(
            self.lifecycle.end_before_last_event(events),
            on_close=self.lifecycle.end,
            environ=self.request.META,
        )
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
        to_events: Callable[[Call, sse.PrimedStream[Chunks | Heartbeat]], Events],
        closing: bytes,
        volatile_texts: Callable[[bytes], tuple[str, ...]],
        new_ids: Callable[[], tuple[bytes, ...]],
    ) -> SseResponse:
        """Return a streamed answer: replayed, or recorded while the chain runs.

        `closing` is the last event of a complete stream; `volatile_texts` finds the texts in one
        that differ in every response, for which `new_ids` returns others.
        """
        self.begin_stream()
        match find_stream(decision, new_ids):
            case Replay(events=events, headers=headers):
                return self.stream_response(events, headers=headers)
            case Bypass(reason=reason):
                items = sse.PrimedStream(stream(call, self.client))
                return self.stream_response(to_events(call, items), headers=bypass_headers(reason))
            case Record() as recording:
                return self._record_stream(call, recording, to_events, closing, volatile_texts)

    def _record_stream(
        self,
        call: Call,
        recording: Record,
        to_events: Callable[[Call, sse.PrimedStream[Chunks | Heartbeat]], Events],
        closing: bytes,
        volatile_texts: Callable[[bytes], tuple[str, ...]],
    ) -> SseResponse:
        try:
            items = sse.PrimedStream(stream(call, self.client))
        except BaseException as error:
            settle_failure(recording.leader, error)
            raise
        events = record(
            to_events(call, items),
            recording,
            call.run,
            closing=closing,
            volatile_texts=volatile_texts,
        )
        return self.stream_response(events, headers=recording.headers)
