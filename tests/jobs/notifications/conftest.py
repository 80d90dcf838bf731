"""What the tests of notifications allow."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def local_receivers(settings: Any) -> None:
    """Receivers on this machine."""
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture
def short_time(settings: Any) -> None:
    """Little time for each webhook."""
    settings.WEBHOOK_TIMEOUT_SECONDS = 0.6
