"""Collect the tests without collections of garbage, which took a third of the time.

All that imports and collection make lasts until the end of the run, so later collections of garbage
leave it out too. Loaded by both plugins.
"""

import gc

import pytest

gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage while the tests run."""
    gc.freeze()
    gc.enable()
