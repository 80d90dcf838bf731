"""What the tests of responses wait for and check."""

from __future__ import annotations

import time

import openai
from openai.types.responses import Response

from tests.provider import WORDS, ProviderCall
from tests.support.waiting import eventually, slack

END_SECONDS = 20.0
HANG_UP_SECONDS = 8.0
WHOLE = "".join(WORDS)


def wait_for(sdk: openai.OpenAI, response_id: str, status: str) -> Response:
    """Return a response once it has a status."""
    eventually(
        lambda: sdk.responses.retrieve(response_id).status == status,
        seconds=END_SECONDS,
        what=f"the response is {status}",
    )
    return sdk.responses.retrieve(response_id)


def check(response: Response) -> None:
    """Check a response against every type of the SDK, which itself checks none."""
    Response.model_validate(response.model_dump(), strict=False)


def hangs_up(call: ProviderCall) -> bool:
    """Return whether a call's other side disconnects soon."""
    deadline = time.monotonic() + slack(HANG_UP_SECONDS)
    while call.hung_up_at is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return call.hung_up_at is not None
