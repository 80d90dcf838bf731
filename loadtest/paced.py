"""A steady load by wrk, which takes less of the processor than loadtest.steady's client."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loadtest.servers import Headrace
from loadtest.settings import ANSWER
from loadtest.steady import BODY, CHAT, Answers

SCRIPT = Path(__file__).with_name("paced.lua")
# More than are ever busy; wrk looks at all that pause at each turn of its loop.
CONNECTIONS = 1000
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Run:
    """The results of a load between two moments of time.monotonic()."""

    answers: Answers
    began: float
    ended: float

    @property
    def offered_per_second(self) -> float:
        """Answers of any kind a second."""
        return self.answers.sent / (self.ended - self.began)

    @property
    def good_per_second(self) -> float:
        """Good answers a second."""
        good = self.answers.good_between(self.began, self.ended)
        return good / (self.ended - self.began)


def send(ours: Headrace, *, per_second: float, seconds: int, extra: float = 0.0) -> Run:
    """Send uncached chat requests at random moments, so many a second.

    What is under way at the end is dropped. `extra` more requests a second are such that HAProxy
    answers them by itself; they cost the client and HAProxy what refused ones cost, and are not
    counted. Raises CalledProcessError if wrk fails.
    """
    with tempfile.TemporaryDirectory(prefix="hr-paced-") as directory:
        lines = Path(directory, "answers")
        environment = {
            **os.environ,
            "REQUEST_PATH": CHAT,
            "BODY": BODY,
            "KEY": ours.key,
            "EXPECT": ANSWER,
            "PER_SECOND": str(per_second + extra),
            "EXTRA": str(extra / (per_second + extra)),
            "ANSWERS": str(lines),
        }
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
        command += ["--timeout", f"{TIMEOUT_SECONDS}s", "-s", str(SCRIPT), ours.url]
        began = time.monotonic()
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=True,
        )
        answers = _read(lines)
    if failures := int(done.stdout.strip().splitlines()[-1]):
        answers.lost["connection"] += failures
    return Run(answers=answers, began=began, ended=began + seconds)


def _read(lines: Path) -> Answers:
    answers = Answers()
    for line in lines.read_text().splitlines():
        at, ms, kind = line.split()
        answers.sent += 1
        if kind == "good":
            answers.good_at.append(float(at))
            answers.good_ms.append(float(ms))
        elif kind == "refused":
            answers.refused_at.append(float(at))
            answers.refused_ms.append(float(ms))
        else:
            answers.lost[kind] += 1
    return answers
