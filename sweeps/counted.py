"""Long work over many things says what it is and how far it has come, on stderr: nobody waits before a silent terminal."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

FEW = 16
"""Things that are gone through without a word."""
EVERY_SECONDS = 5.0
"""Between two counts."""

Thing = TypeVar("Thing")


def counted(
    things: Sequence[Thing],
    doing: str,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Thing]:
    """``things`` one by one; ``doing`` says what is done with them, as `checking combinations`."""
    said = clock()
    if len(things) > FEW:
        say(f"{doing}: {len(things)} of them")
    for done, each in enumerate(things):
        if clock() - said >= EVERY_SECONDS:
            said = clock()
            say(f"{doing}: {done} of {len(things)}")
        yield each
