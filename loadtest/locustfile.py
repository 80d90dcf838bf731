"""Users of Headrace for Locust: chat, streams, conversations and jobs, as loadtest/mix.json says.

`make load TOOL=locust` runs it; so does `locust -f loadtest/locustfile.py --headless`. In addition
to Locust's own rows for requests there are measures of the type TIME: a stream's first token, its
mean and its longest wait for a further one, a complete stream, and a job from its submission to its
end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, between, events
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import RequestStats

# Locust imports this file by its path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtest import plan as plans

try:
    PLAN = plans.read()
except plans.BadPlan as error:
    sys.exit(str(error))

CHAT = "POST /v1/chat/completions"
STREAM = "POST /v1/chat/completions (stream)"
CONVERSATION = "POST /v1/conversations"
MESSAGE = "POST /v1/conversations/{id}/messages"
MESSAGES = "GET /v1/conversations/{id}/messages"
JOB = "POST /v1/jobs"
POLL = "GET /v1/jobs/{id}"
# The rows that the thresholds of mix.json are about.
MEASURES = {
    "chat": (CHAT, "POST"),
    "first token": ("first token", "TIME"),
    "token": ("token", "TIME"),
    "message": (MESSAGE, "POST"),
    "job": ("job, submission to end", "TIME"),
}
# What a connection that is cut raises, and an answer that is not of its form.
BROKEN = (OSError, HTTPException, ValueError, LookupError, TypeError)
# A client's patience with one request.
TIMEOUT_SECONDS = 120


class WrongAnswer(Exception):
    """An answer came, and is not the expected one."""


class Client(FastHttpUser):
    """Does one thing after another, and thinks in between."""

    wait_time = between(*PLAN.think_seconds)
    network_timeout = TIMEOUT_SECONDS
    connection_timeout = 10
    # A certificate must be good, and a redirect must not lead elsewhere.
    insecure = False
    default_headers = {
        "Authorization": f"Bearer {PLAN.key}",
        "Accept-Encoding": "identity",
    }

    def __init__(self, environment: Environment) -> None:
        # Locust's --host would come first otherwise, unexamined.
        self.host = PLAN.url
        super().__init__(environment)

    def chat(self) -> None:
        """Send one request, and read the complete answer."""
        body = {"model": PLAN.models["chat"], "messages": self.messages()}
        self.call("/v1/chat/completions", body, name=CHAT, status=200, check=has_content)

    def stream(self) -> None:
        """Send one request, and read the answer piece by piece to its end."""
        body = {"model": PLAN.models["stream"], "messages": self.messages(), "stream": True}
        began = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions",
            name=STREAM,
            json=body,
            stream=True,
            catch_response=True,
            allow_redirects=False,
        ) as response:
            if response.status_code != 200:
                response.failure(refusal(response))
                return
            try:
                arrivals = [time.perf_counter() for _ in tokens(response)]
                if not arrivals:
                    raise WrongAnswer("a stream without a token")
            except (*BROKEN, WrongAnswer) as error:
                response.failure(f"{type(error).__name__}: {error}")
                return
        waits = [after - before for before, after in pairwise(arrivals)]
        self.measure("first token", arrivals[0] - began)
        if waits:
            self.measure("token", sum(waits) / len(waits))
            self.measure("token, longest wait of a stream", max(waits))
        self.measure("whole stream", time.perf_counter() - began)

    def conversation(self) -> None:
        """Begin a conversation, say something a few times, and read it all."""
        body = {"chain": PLAN.models["conversation"]}
        made = self.call("/v1/conversations", body, name=CONVERSATION, status=201)
        if made is None:
            return
        path = f"/v1/conversations/{made['id']}/messages"
        answer = None
        for number in range(PLAN.mix["conversation"]["messages"]):
            if number:
                self.wait()
            answer = self.call(path, {"content": PLAN.prompt()}, name=MESSAGE, status=201)
            if answer is None:
                return
        self.call(path, name=MESSAGES, status=200, check=lambda listed: has_last(listed, answer))

    def job(self) -> None:
        """Submit a job, and poll until it has ended."""
        settings = PLAN.mix["job"]
        body = {"chain": PLAN.models["job"], "input": PLAN.job_input()}
        began = time.perf_counter()
        job = self.call("/v1/jobs", body, name=JOB, status=202)
        while job is not None and job["status"] in ("queued", "running"):
            if time.perf_counter() - began > settings["timeout_seconds"]:
                break
            gevent.sleep(settings["poll_seconds"])
            job = self.call(f"/v1/jobs/{job['id']}", name=POLL, status=200)
        if job is None:
            return
        wrong = None if job["status"] == "succeeded" else WrongAnswer(f"the job is {job['status']}")
        self.measure("job, submission to end", time.perf_counter() - began, wrong)

    tasks = {
        function: PLAN.mix["weights"][function.__name__]
        for function in (chat, stream, conversation, job)
        if PLAN.mix["weights"].get(function.__name__)
    }

    def messages(self) -> list[dict[str, str]]:
        """Return the text of a request."""
        return [{"role": "user", "content": PLAN.prompt()}]

    def call(
        self, path: str, body: Any = None, *, name: str, status: int, check: Any = None
    ) -> Any:
        """Return the JSON of an answer, or None when it failed, which is then counted."""
        method = "GET" if body is None else "POST"
        with self.client.request(
            method, path, name=name, json=body, catch_response=True, allow_redirects=False
        ) as response:
            if response.status_code != status:
                response.failure(refusal(response))
                return None
            try:
                answer = response.json()
                if check:
                    check(answer)
            except (*BROKEN, WrongAnswer) as error:
                response.failure(f"{type(error).__name__}: {error}")
                return None
            return answer

    def measure(self, name: str, seconds: float, exception: Exception | None = None) -> None:
        """Add a duration to the report, as if it were a request's."""
        self.environment.events.request.fire(
            request_type="TIME",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=exception,
            context={},
        )


class Profile(LoadTestShape):
    """As many users as the profile says, at any time."""

    def tick(self) -> tuple[int, float] | None:
        """Return the users that there should be, and how fast to get there; None at the end."""
        users = PLAN.users_at(self.get_run_time())
        return (
            None if users is None else (users, max(1, abs(users - self.get_current_user_count())))
        )


def tokens(response: Any) -> Iterator[str]:
    """Yield the content of each piece of a stream as it arrives; raises WrongAnswer."""
    source = response._response
    while line := source.readline(b"\n"):
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            # What is left is the end of the last chunk, after which the connection is free again.
            while source.readline(b"\n"):
                pass
            return
        piece = json.loads(line[6:])
        if "error" in piece:
            raise WrongAnswer(piece["error"].get("code") or "error")
        for choice in piece["choices"]:
            if content := choice["delta"].get("content"):
                yield content
    raise WrongAnswer("the stream broke off")


def refusal(response: Any) -> str:
    """Return why there is no answer of the right status."""
    return str(getattr(response, "error", None) or f"status {response.status_code}")


def has_content(answer: Any) -> None:
    """Raise WrongAnswer unless a completion says something."""
    if not answer["choices"][0]["message"]["content"]:
        raise WrongAnswer("an empty answer")


def has_last(listed: Any, answer: Any) -> None:
    """Raise WrongAnswer unless the messages listed hold the newest answer."""
    if answer["id"] not in [message["id"] for message in listed["data"]]:
        raise WrongAnswer("the newest answer is not listed")


@events.test_start.add_listener
def watch_the_bound(environment: Environment, **_: Any) -> None:
    """See to it that the test ends once there were as many requests as are allowed."""
    if PLAN.max_requests and not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(stop_at_the_bound, environment)


def stop_at_the_bound(environment: Environment) -> None:
    """Wait for the bound; it is overshot by what half a second brings."""
    while count(environment.stats)[0] < PLAN.max_requests:
        gevent.sleep(0.5)
    if environment.runner is not None:
        environment.runner.quit()


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit code by the thresholds, and say which were missed."""
    if isinstance(environment.runner, WorkerRunner):
        return
    missed = missed_thresholds(environment.stats)
    # What a user did not foresee is in no row.
    if environment.runner is not None and environment.runner.exceptions:
        missed.append(f"users failed in {len(environment.runner.exceptions)} unforeseen ways")
    for sentence in missed:
        print(sentence, file=sys.stderr)
    environment.process_exit_code = 1 if missed else 0


def missed_thresholds(stats: RequestStats) -> list[str]:
    """Return a sentence for each threshold that was missed."""
    requests, failures = count(stats)
    if not requests:
        return ["nothing was requested"]
    missed = []
    allowed = PLAN.mix["thresholds"]["error_rate"]
    if failures / requests > allowed:
        missed.append(f"errors: {failures} in {requests} requests, more than {allowed:.2%}")
    for name, most in PLAN.mix["thresholds"]["p95_ms"].items():
        row = stats.entries.get(MEASURES[name])
        seen = row.get_response_time_percentile(0.95) if row else 0
        if seen > most:
            missed.append(f"{name}: p95 {seen:.0f} ms, more than {most} ms")
    if PLAN.max_requests and requests >= PLAN.max_requests:
        missed.append(f"stopped after {requests} requests, as LOAD_MAX_REQUESTS says")
    return missed


def count(stats: RequestStats) -> tuple[int, int]:
    """Return the number of requests, and of failures of them and of jobs."""
    rows = stats.entries.values()
    requests = sum(row.num_requests for row in rows if row.method != "TIME")
    return requests, sum(row.num_failures for row in rows)
