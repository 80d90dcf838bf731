"""Cancelled, abandoned and repeated responses as OpenAI's own SDK sees them."""

from __future__ import annotations

import uuid

import httpx
import openai
import pytest
from openai.types.responses import Response

from tests.jobs.responses.responses import check, hangs_up, wait_for
from tests.provider import Provider


# --- Cancelling ---------------------------------------------------------------------------------
def test_a_response_under_way_is_cancelled(
    sdk: openai.OpenAI, provider: Provider, marker: str
) -> None:
    response = sdk.responses.create(model="provider-hang", input=marker, background=True)
    call = provider.wait_for_call(marker)
    cancelled = sdk.responses.cancel(response.id)
    check(cancelled)
    assert cancelled.status in ("in_progress", "cancelled")
    done = wait_for(sdk, response.id, "cancelled")
    assert (done.output, done.error) == ([], None)
    assert hangs_up(call)
    events = list(sdk.responses.retrieve(response.id, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.status == "cancelled"
    assert sdk.responses.cancel(response.id) == done


def test_a_finished_response_stays_as_it_is_when_cancelled(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="provider-hello", input="Hi")
    assert sdk.responses.cancel(response.id) == response


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_cancels_what_it_waited_for(
    http: httpx.Client, provider: Provider, marker: str, stream: bool
) -> None:
    body = {"model": "provider-hang", "input": marker, "stream": stream}
    with (
        pytest.raises(httpx.ReadTimeout),
        http.stream("POST", "/v1/responses", json=body, timeout=0.8) as response,
    ):
        for _ in response.iter_raw():
            pass
    assert hangs_up(provider.wait_for_call(marker))


def test_a_client_that_hangs_up_leaves_the_background_alone(
    sdk: openai.OpenAI, provider: Provider, marker: str
) -> None:
    with sdk.responses.create(
        model="provider-slow-start", input=marker, background=True, stream=True
    ) as stream:
        created = next(iter(stream))
        assert created.type == "response.created"
        provider.wait_for_call(marker)
    assert wait_for(sdk, created.response.id, "completed").output_text == "At last."


# --- Repeating ----------------------------------------------------------------------------------
@pytest.mark.parametrize("background", [False, True])
def test_the_same_request_again_gets_the_same_response(
    sdk: openai.OpenAI, provider: Provider, marker: str, background: bool
) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    def ask(model: str) -> Response:
        return sdk.responses.create(
            model=model, input=marker, background=background, extra_headers=headers
        )

    first, again = ask("provider-hello"), ask("provider-hello")
    assert again == first
    wait_for(sdk, first.id, "completed")
    assert len(provider.calls_of(marker)) == 1
    with pytest.raises(openai.UnprocessableEntityError) as error:
        ask("provider-echo")
    assert error.value.code == "idempotency_key_reused"


def test_a_request_that_can_be_repeated_outlives_its_connection(
    http: httpx.Client, provider: Provider, marker: str
) -> None:
    headers = {"Idempotency-Key": marker}
    body = {"model": "provider-slow-start", "input": marker}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/responses", json=body, headers=headers, timeout=0.5)
    answer = http.post("/v1/responses", json=body, headers=headers)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert answer.json()["status"] == "completed"
    assert len(provider.calls_of(marker)) == 1
