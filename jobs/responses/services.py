"""Operations of clients on responses; each is a job."""

from __future__ import annotations

import logging
import uuid

from django.db import DatabaseError
from psycopg_pool import PoolTimeout

from chat.chains.catalog import get_chain
from config.api.errors import NotFound
from config.api.ids import from_public_id
from jobs.models import Job
from jobs.responses.bodies import PREFIX
from jobs.responses.errors import ResponseNotFound
from jobs.responses.requests import job_input, job_request
from jobs.responses.schemas import ResponseRequest
from jobs.services import Submission, request_cancel
from node.middleware import current_request_id

API = "responses"
logger = logging.getLogger(__name__)


def submission_of(request: ResponseRequest) -> Submission:
    """Return the job of a request; raises ChainNotFound and InvalidRequest.

    A request that waits for its response has the chain's time, as a chat completion has; one in the
    background has JOB_TIMEOUT_SECONDS.
    """
    chain = get_chain(request.model)
    return Submission(
        chain=request.model,
        input=job_input(chain, request),
        request=job_request(request),
        metadata=request.metadata or {},
        timeout_seconds=None if request.background else chain.config.timeout_seconds,
        api=API,
        request_id=current_request_id.get(),
    )


def get_response_job(*, account_id: uuid.UUID, public_id: str) -> Job:
    """Return the job of an account's response; raises ResponseNotFound, also for other jobs."""
    job_id = job_id_of(public_id)
    job = (
        Job.objects.filter(pk=job_id, account_id=account_id, api=API)
        .select_related("chain")
        .defer("input")
        .first()
    )
    if job is None:
        raise ResponseNotFound
    return job


def job_id_of(public_id: str) -> uuid.UUID:
    """Return the UUID in a response's id; raises ResponseNotFound."""
    try:
        return from_public_id(PREFIX, public_id)
    except NotFound as error:
        raise ResponseNotFound from error


class ResponseWait:
    """The wait of a request for a job; when the request ends before the job, so does the job.

    Unless `cancels_job` is False: it runs in the background, or the client can get it later.
    """

    def __init__(self, job: Job, *, cancels_job: bool) -> None:
        self.job = job
        self.cancels_job = cancels_job

    def __call__(self) -> None:
        """End the wait (chat.running.api_view.RequestLifecycle.on_end)."""
        if not self.cancels_job:
            return
        self.cancels_job = False
        try:
            request_cancel(self.job)
        except (DatabaseError, PoolTimeout) as error:
            # It runs to its end, and its result is not read.
            logger.warning("%s was not cancelled: %s", self.job, error)
