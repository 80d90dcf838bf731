"""The jobs API."""

from __future__ import annotations

from typing import Any

import orjson
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from access import idempotency
from access.idempotency import Answer
from access.limits import admit
from chat.caching.read_cache import READ_CACHE_POLICY
from chat.running.api_view import ApiView
from config import exact_json
from config.api.errors import InvalidRequest
from config.api.json import JsonParser
from config.api.pagination import PARAMETERS, list_body, read_cursor
from config.api.schema import EVENT_STREAM, error_responses
from config.api.validation import parse
from jobs import services
from jobs.documents.form import FORM_SCHEMA, is_form, read_upload
from jobs.documents.parser import UploadParser
from jobs.events.stream import job_events, read_event_id
from jobs.models import Job
from jobs.queue.transitions import subject_of
from jobs.schemas import (
    JobBody,
    JobCreate,
    JobList,
    job_body,
    listed_job_body,
    submission_options,
)
from jobs.services import Submission
from jobs.submissions import submit_once

IDEMPOTENCY_PARAMETER = OpenApiParameter(
    idempotency.HEADER, str, OpenApiParameter.HEADER, description="Repeat a request safely."
)
LAST_EVENT_PARAMETER = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="The last event that was read."
)


class JobsApiView(ApiView):
    """A view for keys with the scope `jobs`."""

    required_scope = "jobs"


class SubmissionView(JobsApiView):
    """A view whose POST submits a job."""

    def admit(self, request: Request) -> None:
        """Admit a submission as a call of a model that takes no concurrency slot.

        It needs the key's tokens of the day as well: the job will use some.
        """
        if request.method != "POST":
            super().admit(request)
            return
        self.begin_reading(request)
        self.lifecycle.admission = admit(self.principal, is_model_call=True, needs_slot=False)


class JobsView(SubmissionView):
    """`/v1/jobs`."""

    parser_classes = [JsonParser, UploadParser]

    @extend_schema(
        operation_id="create_job",
        tags=["jobs"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request={"application/json": JobCreate, "multipart/form-data": FORM_SCHEMA},
        responses={
            202: JobBody,
            **error_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """Queue a call of a chain; it runs also if this connection ends.

        A form brings the input as a document: PDF, plain text or Markdown.
        """
        if is_form(request):
            # An upload lasts as long as its client wants.
            self.take_slot()
            with read_upload(request, account_id=self.principal.account_id) as upload:
                return self._submit(request, upload.submission, upload.identity)
        body = parse(JobCreate, request.data)
        submission = Submission(chain=body.chain, input=body.input, **submission_options(body))
        identity = exact_json.dumps(request.data, option=orjson.OPT_SORT_KEYS)
        return self._submit(request, submission, identity)

    @extend_schema(
        operation_id="list_jobs",
        tags=["jobs"],
        parameters=[
            *PARAMETERS,
            OpenApiParameter("status", str, enum=[str(s) for s in Job.Status.values]),
            OpenApiParameter("chain", str),
        ],
        responses={200: JobList, **error_responses(400, 401, 403, 404, 429, 503)},
    )
    def get(self, request: Request) -> Response:
        """List the account's jobs, the newest first, without their outputs."""
        cursor = read_cursor(request, default_order="desc")
        status = request.query_params.get("status", "")
        if status and status not in Job.Status.values:
            raise InvalidRequest(
                f"status must be one of {', '.join(Job.Status.values)}.", param="status"
            )
        chain = request.query_params.get("chain", "")
        if "\0" in chain:
            raise InvalidRequest("chain must not contain a NUL character.", param="chain")
        rows = services.list_jobs(
            account_id=self.principal.account_id, cursor=cursor, status=status, chain=chain
        )
        return Response(list_body(rows, limit=cursor.limit, to_body=listed_job_body))

    def _submit(self, request: Request, submission: Submission, body: bytes) -> Response:
        answer = submit_once(
            request, self.principal, submission, body=body, to_answer=_accepted_answer
        )
        return Response(answer.body, answer.status, headers=answer.headers)


class JobView(JobsApiView):
    """`/v1/jobs/{id}`."""

    cache_policy = READ_CACHE_POLICY

    @extend_schema(
        operation_id="get_job",
        tags=["jobs"],
        responses={200: JobBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def get(self, request: Request, public_id: str) -> Response:
        """Return a job with its output."""

        def make() -> dict[str, Any]:
            job = services.get_job(account_id=self.principal.account_id, public_id=public_id)
            return job_body(job)

        return self.answer_read(subject_of(services.job_id_of(public_id)), make)


class JobCancelView(JobsApiView):
    """`/v1/jobs/{id}/cancel`."""

    @extend_schema(
        operation_id="cancel_job",
        tags=["jobs"],
        request=None,
        responses={200: JobBody, **error_responses(401, 403, 404, 429, 503)},
    )
    def post(self, request: Request, public_id: str) -> Response:
        """Cancel a job; a running one is `cancelling` until its worker has stopped it."""
        job = services.get_job(account_id=self.principal.account_id, public_id=public_id)
        return Response(job_body(services.request_cancel(job)))


class JobRetryView(SubmissionView):
    """`/v1/jobs/{id}/retry`."""

    @extend_schema(
        operation_id="retry_job",
        tags=["jobs"],
        request=None,
        responses={202: JobBody, **error_responses(401, 403, 404, 409, 429, 503)},
    )
    def post(self, request: Request, public_id: str) -> Response:
        """Queue a failed or cancelled job again; answered model calls are not paid again."""
        job = services.get_job(account_id=self.principal.account_id, public_id=public_id)
        services.refuse_if_full(self.principal.account_id)
        return _accepted(services.retry(job))


class JobEventsView(JobsApiView):
    """`/v1/jobs/{id}/events`."""

    @extend_schema(
        operation_id="stream_job_events",
        tags=["jobs"],
        parameters=[LAST_EVENT_PARAMETER],
        responses={
            (200, "text/event-stream"): EVENT_STREAM,
            **error_responses(400, 401, 403, 404, 429, 503),
        },
    )
    def get(self, request: Request, public_id: str) -> Any:
        """Stream a job's events from the first, or after the one that was read last."""
        after = read_event_id(request.headers.get("Last-Event-ID"), param="Last-Event-ID")
        self.begin_stream()
        job = services.get_job(account_id=self.principal.account_id, public_id=public_id)
        return self.stream_response(job_events(job, self.client, after=after))


def _accepted(job: Job) -> Response:
    answer = _accepted_answer(job)
    return Response(answer.body, answer.status, headers=answer.headers)


def _accepted_answer(job: Job) -> Answer:
    return Answer(status=202, body=job_body(job), headers={"Location": f"/v1/jobs/{job}"})
