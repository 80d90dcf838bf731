"""Long work in slices, between which the other greenlets of the event loop run."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

T = TypeVar("T")


def in_slices(items: Iterable[T], size: int) -> Iterator[T]:
    """Yield the items; after each `size` of them other greenlets run first."""
    for count, item in enumerate(items, start=1):
        yield item
        if count % size == 0:
            gevent.sleep(0)
