"""Accounts that write and read without end, each through both nodes and HAProxy."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Answer, History, Read, Write

CONVERSATIONS = "/v1/conversations"
JOBS = "/v1/jobs"
NONE: Mapping[str, str] = {}
POSITION = "x-headrace-position"
TIMEOUT_SECONDS = 15.0
MESSAGES_PER_CONVERSATION = 15
CONVERSATIONS_READ = 3
JOBS_READ = 5
WRITE_EVERY_SECONDS = 0.4
READ_EVERY_SECONDS = 0.2
IDLE_READ_EVERY_SECONDS = 0.15


@dataclass
class Account:
    """One account's key, and what it has; its writer appends, its readers look."""

    name: str
    key: str
    conversations: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    # As the last write's answer had it.
    position: str = ""


class Client:
    """One thread's connections, one for each way in."""

    def __init__(
        self, name: str, account: Account, history: History, ways: dict[str, str], seed: str
    ) -> None:
        self.account = account
        self.history = history
        self.random = random.Random(seed)
        self._name = name
        self._ways = ways
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def pick_way(self) -> str:
        """Return one of the ways in at random."""
        return self.random.choice(list(self._ways))

    def send(
        self, kind: str, path: str, body: Any = None, *, way: str, headers: Mapping[str, str] = NONE
    ) -> tuple[Answer, dict[str, str], Any]:
        """Send one request; record how it ended, and return that, the headers and the body."""
        method = kind.split(maxsplit=1)[0]
        client = f"{self._name} by {way}"
        data = None if body is None else json.dumps(body).encode()
        more = {"Authorization": f"Bearer {self.account.key}", "Content-Type": "application/json"}
        status, text, found, problem = 0, b"", {}, ""
        began = time.monotonic()
        try:
            connection = self._connection(way)
            connection.request(method, path, data, {**more, **headers})
            response = connection.getresponse()
            text, status = response.read(), response.status
            found = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException) as error:
            problem = f"{type(error).__name__}: {error}"
            self._connections.pop(way).close()
        ended = time.monotonic()
        if not problem and not is_expected(status, found):
            problem = f"{status} {text[:300].decode(errors='replace')}"
        answer = Answer(
            kind=kind, client=client, status=status, began=began, ended=ended, problem=problem
        )
        self.history.answers.append(answer)
        return answer, found, json.loads(text) if answer.is_success else None

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()

    def _connection(self, way: str) -> http.client.HTTPConnection:
        if way not in self._connections:
            self._connections[way] = http.client.HTTPConnection(
                self._ways[way], timeout=TIMEOUT_SECONDS
            )
        return self._connections[way]


def is_expected(status: int, headers: dict[str, str]) -> bool:
    """Return whether clients must be ready for such an answer.

    What is not found is for the checker to judge: it shows nothing.
    """
    return (
        200 <= status < 300
        or status in (404, 409, 429)
        or (status == 503 and "retry-after" in headers)
    )


class Writer:
    """An account's only writer."""

    def __init__(self, client: Client, reader: Reader) -> None:
        self._client = client
        # Looks at once, often by another way, at what was written.
        self._reader = reader
        self._numbers: dict[str, int] = {}
        self._messages = 0

    def begin(self) -> None:
        """Write one of each."""
        for write in (self._create, self._post, self._submit):
            write(self._client.account.conversations[-1] if write == self._post else "")

    def step(self) -> None:
        """Write once, and read it half of the times."""
        account, rng = self._client.account, self._client.random
        if not account.conversations or self._messages >= MESSAGES_PER_CONVERSATION:
            self._create()
            return
        conversation = account.conversations[-1]
        write, read = rng.choices(
            [
                (self._patch, self._reader.get_conversation),
                (self._post, self._reader.list_messages),
                (self._submit, self._reader.get_job),
                (self._create, self._reader.list_conversations),
            ],
            weights=[45, 30, 17, 8],
        )[0]
        subject = write(conversation)
        if subject and rng.random() < 0.5:
            read(subject)

    def wait(self) -> None:
        """Wait for a while, now short and now long."""
        time.sleep(min(3.0, self._client.random.expovariate(1 / WRITE_EVERY_SECONDS)))

    def _create(self, _: str = "") -> str:
        answer, body = self._send("POST conversation", CONVERSATIONS, chain="quick")
        if body is None:
            return ""
        conversation: str = body["id"]
        account = self._client.account
        self._acknowledge(answer, f"conversations of {account.name}", conversation)
        self._acknowledge(answer, f"metadata {conversation}", 0)
        self._messages = 0
        account.conversations.append(conversation)
        return conversation

    def _patch(self, conversation: str) -> str:
        number = self._numbers[conversation] = self._numbers.get(conversation, 0) + 1
        path = f"{CONVERSATIONS}/{conversation}"
        answer, _ = self._send("PATCH conversation", path, metadata={"n": str(number)})
        subject = f"metadata {conversation}"
        if answer.is_success:
            self._acknowledge(answer, subject, number)
        self._note_absence(answer, subject, -1)
        return conversation if answer.is_success else ""

    def _post(self, conversation: str) -> str:
        path = f"{CONVERSATIONS}/{conversation}/messages"
        answer, body = self._send("POST message", path, content="hello")
        self._note_absence(answer, f"metadata {conversation}", -1)
        if body is None:
            # The conversation may be busy until a lease has run out.
            self._messages = MESSAGES_PER_CONVERSATION
            return ""
        self._acknowledge(answer, f"messages {conversation}", body["id"])
        self._messages += 1
        return conversation

    def _submit(self, _: str) -> str:
        answer, body = self._send("POST job", JOBS, chain="quick", input="hello")
        if body is None:
            return ""
        job: str = body["id"]
        account = self._client.account
        self._acknowledge(answer, f"jobs of {account.name}", job)
        self._acknowledge(answer, f"job {job}", job)
        account.jobs.append(job)
        return job

    def _send(self, kind: str, path: str, **body: Any) -> tuple[Answer, Any]:
        way = self._client.pick_way()
        answer, headers, found = self._client.send(kind, path, body, way=way)
        if answer.is_success:
            self._client.account.position = headers.get(POSITION, "")
        return answer, found

    def _acknowledge(self, answer: Answer, subject: str, value: int | str) -> None:
        self._client.history.writes.append(
            Write(
                subject=subject,
                value=value,
                began=answer.began,
                ended=answer.ended,
                client=answer.client,
            )
        )

    def _note_absence(self, answer: Answer, subject: str, shown: int) -> None:
        if answer.status == 404:
            note_read(self._client.history, answer, subject, shown)


class Reader:
    """Reads what its account has; with `carries`, it sends the position of the last write."""

    def __init__(self, client: Client, *, carries: bool = False, way: str = "") -> None:
        self._client = client
        self._carries = carries
        self._way = way

    def step(self) -> None:
        """Read once."""
        account, rng = self._client.account, self._client.random
        if not account.conversations:
            return
        conversation = rng.choice(account.conversations[-CONVERSATIONS_READ:])
        reads: list[tuple[Callable[[str], None], str]] = [
            (self.get_conversation, conversation),
            (self.get_conversation, conversation),
            (self.list_messages, conversation),
            (self.list_conversations, ""),
        ]
        if account.jobs:
            job = rng.choice(account.jobs[-JOBS_READ:])
            reads += [(self.get_job, job), (self.list_jobs, "")]
        read, subject = rng.choice(reads)
        read(subject)

    def wait(self) -> None:
        """Wait for a moment."""
        time.sleep(self._client.random.uniform(0.5, 1.5) * READ_EVERY_SECONDS)

    def get_conversation(self, conversation: str) -> None:
        """Read the number in a conversation's metadata."""

        def number(body: Any) -> int:
            return int(body["metadata"].get("n", 0)) if body else -1

        path = f"{CONVERSATIONS}/{conversation}"
        self._read("GET conversation", path, f"metadata {conversation}", number)

    def list_messages(self, conversation: str) -> None:
        """Read the ids of a conversation's messages."""
        path = f"{CONVERSATIONS}/{conversation}/messages?limit=100"
        self._read("GET messages", path, f"messages {conversation}", ids)

    def list_conversations(self, _: str) -> None:
        """Read the ids of the account's conversations."""
        subject = f"conversations of {self._client.account.name}"
        self._read("GET conversations", f"{CONVERSATIONS}?limit=100", subject, ids)

    def get_job(self, job: str) -> None:
        """Read whether there is a job."""
        path = f"{JOBS}/{job}"
        self._read("GET job", path, f"job {job}", lambda body: frozenset([job] if body else []))

    def list_jobs(self, _: str) -> None:
        """Read the ids of the account's jobs."""
        subject = f"jobs of {self._client.account.name}"
        self._read("GET jobs", f"{JOBS}?limit=100", subject, ids)

    def _read(
        self, kind: str, path: str, subject: str, shown: Callable[[Any], int | frozenset[str]]
    ) -> None:
        client = self._client
        headers = {}
        if self._way or client.random.random() < 0.5:
            headers["Cache-Control"] = "no-cache"
        if self._carries and client.account.position:
            headers[POSITION] = client.account.position
        way = self._way or client.pick_way()
        answer, _, body = client.send(kind, path, way=way, headers=headers)
        if answer.is_success or answer.status == 404:
            note_read(client.history, answer, subject, shown(body))


class IdleReader(Reader):
    """Reads, always in the same way, rows without recent writes."""

    def wait(self) -> None:
        time.sleep(IDLE_READ_EVERY_SECONDS)


def ids(body: Any) -> frozenset[str]:
    """Return the ids of a page that must be the only one."""
    if body is None:
        return frozenset()
    assert not body["has_more"], "the workload made more than a page shows"
    return frozenset(row["id"] for row in body["data"])


def note_read(history: History, answer: Answer, subject: str, shown: int | frozenset[str]) -> None:
    """Record what a request showed."""
    history.reads.append(
        Read(
            subject=subject,
            shown=shown,
            began=answer.began,
            ended=answer.ended,
            client=answer.client,
        )
    )


class Load:
    """All writers and readers, a thread each."""

    def __init__(
        self, active: list[Account], idle: Account, ways: dict[str, str], seed: int
    ) -> None:
        self.history = History()
        self._ways = ways
        self._seed = seed
        self._clients: list[Client] = []
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        workers: list[Writer | Reader] = []
        for account in active:
            client = self._client(f"{account.name} writer", account)
            workers.append(Writer(client, Reader(client)))
            for carries in (True, False):
                name = f"{account.name} reader{' with position' if carries else ''}"
                workers.append(Reader(self._client(name, account), carries=carries))
        workers += [IdleReader(self._client(f"{idle.name} reader", idle), way=way) for way in ways]
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in workers
        ]

    def make_something(self, account: Account) -> None:
        """Create an account's first conversation with a message, and a job."""
        client = self._client(f"{account.name} writer", account)
        Writer(client, Reader(client)).begin()
        assert account.jobs

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; raises what went wrong in a thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS * 2)
        for client in self._clients:
            client.close()
        if self._failures:
            raise self._failures[0]

    def _client(self, name: str, account: Account) -> Client:
        client = Client(
            name, account, self.history, self._ways, f"{self._seed} {name} {len(self._clients)}"
        )
        self._clients.append(client)
        return client

    def _run(self, worker: Writer | Reader) -> None:
        while not self._stop.is_set():
            try:
                worker.step()
            # A thread's own failure must not look like a quiet client.
            except BaseException as error:
                self._failures.append(error)
                return
            worker.wait()
