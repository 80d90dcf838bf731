"""OpenAI's Responses API; `model` is a chain's slug, and each response is a job."""

from __future__ import annotations

from typing import Any

import orjson
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access import idempotency
from access.idempotency import Answer
from chat.caching.read_cache import READ_CACHE_POLICY
from chat.inputs.media_parts import check_long_media
from config import exact_json
from config.api.errors import InvalidRequest
from config.api.schema import EVENT_STREAM, error_responses
from config.api.validation import parse
from jobs.events.stream import read_event_id
from jobs.models import Job
from jobs.queue.transitions import subject_of
from jobs.responses.bodies import queued_body, response_body
from jobs.responses.following import response_events, wait_until_over
from jobs.responses.items import media_of
from jobs.responses.requests import job_request
from jobs.responses.schemas import ResponseBody, ResponseRequest
from jobs.responses.services import ResponseWait, get_response_job, job_id_of, submission_of
from jobs.services import request_cancel
from jobs.submissions import submit_once
from jobs.views import IDEMPOTENCY_PARAMETER, JobsApiView, SubmissionView

QUERY = ("stream", "starting_after", "include_obfuscation")


class ResponsesView(SubmissionView):
    """`/v1/responses`."""

    @extend_schema(
        operation_id="create_response",
        tags=["responses"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=ResponseRequest,
        responses={
            200: ResponseBody,
            (200, "text/event-stream"): EVENT_STREAM,
            **error_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503, 504),
        },
    )
    def post(self, request: Request) -> Any:
        """Run a chain: now, as a stream of events, or in the background."""
        body = parse(ResponseRequest, request.data)
        check_long_media(media_of(body.input))
        is_waited_for = not body.background or body.stream
        if is_waited_for:
            # The wait follows the job as a stream does.
            self.begin_stream()
        fields = job_request(body)
        answer = submit_once(
            request,
            self.principal,
            submission_of(body),
            body=exact_json.dumps(request.data, option=orjson.OPT_SORT_KEYS),
            to_answer=lambda job: Answer(status=200, body=queued_body(job, fields), headers={}),
        )
        if not is_waited_for:
            return Response(answer.body, answer.status, headers=answer.headers)
        # The same request again follows the same job.
        job = self.get_job(answer.body["id"])
        is_repeatable = idempotency.read_key(request.headers) is not None
        waiting = ResponseWait(job, cancels_job=not (body.background or is_repeatable))
        self.lifecycle.on_end = waiting
        if body.stream:
            response = self.stream_response(response_events(waiting, fields, self.client))
            for name, value in answer.headers.items():
                response.headers[name] = value
            return response
        over = wait_until_over(waiting, self.client)
        return Response(response_body(over, fields), headers=answer.headers)

    def get_job(self, public_id: str) -> Job:
        """Return the job of a response of this account."""
        return get_response_job(account_id=self.principal.account_id, public_id=public_id)


class ResponseView(JobsApiView):
    """`/v1/responses/{id}`."""

    cache_policy = READ_CACHE_POLICY

    @extend_schema(
        operation_id="get_response",
        tags=["responses"],
        parameters=[
            OpenApiParameter("stream", bool),
            OpenApiParameter(
                "starting_after",
                int,
                description="With `stream`: the `sequence_number` of the last event that was read.",
            ),
            OpenApiParameter("include_obfuscation", bool, enum=[False]),
        ],
        responses={
            200: ResponseBody,
            (200, "text/event-stream"): EVENT_STREAM,
            **error_responses(400, 401, 403, 404, 429, 503),
        },
    )
    def get(self, request: Request, public_id: str) -> Any:
        """Return a response as it is now, or its events from the beginning or after one of them."""
        after = _read_query(request)
        account_id = self.principal.account_id
        if after is None:

            def make() -> dict[str, Any]:
                job = get_response_job(account_id=account_id, public_id=public_id)
                return response_body(job, job.request)

            return self.answer_read(subject_of(job_id_of(public_id)), make)
        self.begin_stream()
        job = get_response_job(account_id=account_id, public_id=public_id)
        waiting = ResponseWait(job, cancels_job=False)
        return self.stream_response(response_events(waiting, job.request, self.client, after=after))


class ResponseCancelView(JobsApiView):
    """`/v1/responses/{id}/cancel`."""

    @extend_schema(
        operation_id="cancel_response",
        tags=["responses"],
        request=None,
        responses={200: ResponseBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def post(self, request: Request, public_id: str) -> Response:
        """Cancel a response; one under way is `in_progress` until its worker has stopped it."""
        job = get_response_job(account_id=self.principal.account_id, public_id=public_id)
        fields = job.request
        return Response(response_body(request_cancel(job), fields))


def _read_query(request: Request) -> int | None:
    """Return the number after which to stream, None for no stream; raises InvalidRequest."""
    query = request.query_params
    for name in query:
        if name not in QUERY:
            raise InvalidRequest(
                f"{name} is not supported.", param=name, code="unsupported_parameter"
            )
    if query.get("include_obfuscation", "false") != "false":
        raise InvalidRequest("include_obfuscation must be false.", param="include_obfuscation")
    if (is_stream := query.get("stream", "false")) not in ("true", "false"):
        raise InvalidRequest("stream must be true or false.", param="stream")
    if is_stream == "true":
        return read_event_id(query.get("starting_after"), param="starting_after")
    if "starting_after" in query:
        raise InvalidRequest("starting_after needs stream to be true.", param="starting_after")
    return None
