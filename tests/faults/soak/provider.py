"""A model provider that stores nothing, and fails on demand."""

from __future__ import annotations

import time

from tests.provider import Provider
from tests.provider.behaviours import behaviour
from tests.provider.exchange import Exchange, ProviderCall

HANG_SECONDS = 1.5

# Of the provider of this process: "", "fails" or "hangs".
STATE = {"how": ""}


class ForgetfulProvider(Provider):
    """A provider whose memory does not grow with its calls."""

    def note(self, call: ProviderCall) -> int:
        """Return 1: every call is the first."""
        return 1


@behaviour
def soak(exchange: Exchange) -> None:
    """Answer, or not."""
    how = STATE["how"]
    if how == "fails":
        exchange.fail(500)
        return
    if how == "hangs":
        time.sleep(HANG_SECONDS)
    exchange.answer("So ", "it ", "goes ", "on.")
