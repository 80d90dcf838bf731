"""The pace at which a document must come in."""

from __future__ import annotations

import gevent
import pytest

from node.request_bodies import PacedInput


class SlowStream:
    """A stream that returns each piece after its pause in seconds."""

    def __init__(self, *pieces: tuple[float, int]) -> None:
        self._pieces = list(pieces)

    def read(self, size: int = -1) -> bytes:
        if not self._pieces:
            return b""
        pause, length = self._pieces.pop(0)
        gevent.sleep(pause)
        return b"x" * length

    readline = read


@pytest.fixture(autouse=True)
def pace(settings) -> None:
    settings.BODY_TIMEOUT_SECONDS = 0.5
    settings.MAX_BODY_BYTES = 1000


def test_an_upload_at_the_pace_may_take_longer_than_the_time_of_other_bodies():
    stream = PacedInput(SlowStream(*[(0.1, 400)] * 12))
    assert sum(len(stream.read()) for _ in range(12)) == 4800


def test_an_upload_that_stalls_ends_however_much_of_it_has_come():
    stream = PacedInput(SlowStream((0.0, 1_000_000), (5.0, 1)))
    stream.read()
    with gevent.Timeout(3), pytest.raises(TimeoutError):
        stream.read()


def test_an_upload_that_drips_ends():
    stream = PacedInput(SlowStream(*[(0.1, 1)] * 100))
    with gevent.Timeout(5), pytest.raises(TimeoutError):
        [stream.read() for _ in range(6)]
