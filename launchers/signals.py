"""Ctrl-C and SIGTERM, collected where a ``KeyboardInterrupt`` would come in the middle of our bookkeeping."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def collected(heard: Callable[[], None]) -> Iterator[list[int]]:
    """The signals that have come so far. ``heard`` is called for each, in the handler: it must neither wait nor take a lock."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        heard()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
