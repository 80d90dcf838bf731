"""Submit a job once for each Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from rest_framework.request import Request

from access import idempotency
from access.idempotency import Answer
from access.principal import Principal
from chat.models import Chain
from config.api.errors import ApiError
from jobs import services
from jobs.models import Job
from jobs.services import Submission

# Submitting in one transaction takes no longer; a killed node's key is free after that.
SUBMIT_LEASE_SECONDS = 30.0


def submit_once(
    request: Request,
    principal: Principal,
    submission: Submission,
    *,
    body: bytes,
    to_answer: Callable[[Job], Answer],
) -> Answer:
    """Return the response for a new job, or the stored one of the same request."""
    key = idempotency.read_key(request.headers)
    if key is None:
        chain = services.check(principal, submission)
        return to_answer(services.submit(principal, chain, submission))
    checked: Chain | ApiError
    try:
        checked = services.check(principal, submission)
    except ApiError as error:
        # A stored response is replayed even if the request would be refused by now.
        checked = error
    fingerprint = idempotency.fingerprint(b"POST", request.path.encode(), body)
    # One transaction: a request that comes with the same key waits for it, and finds the answer.
    with transaction.atomic():
        ticket = idempotency.begin(
            account_id=principal.account_id,
            key=key,
            fingerprint=fingerprint,
            lease_seconds=SUBMIT_LEASE_SECONDS,
        )
        if isinstance(ticket, Answer):
            headers = {**ticket.headers, **idempotency.REPLAYED}
            return Answer(status=ticket.status, body=ticket.body, headers=headers)
        if isinstance(checked, ApiError):
            raise checked
        answer = to_answer(services.submit(principal, checked, submission))
        ticket.store(answer)
    return answer
