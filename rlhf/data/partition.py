"""Which prompt belongs to which stage, and which is held out: decided by hashes of the prompt, and by nothing else.

A split drawn with the run's seed leaks as soon as two stages of a chain see different seeds: prompts that the reward
model was trained on turn up in PPO. A hash cannot. What is hashed is the prompt's *opening* (its first user turn), so
that a dialogue and its continuations stay together, on one side.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping

from rlhf.config import PARTS


def fraction(purpose: str, key: str) -> float:
    """A number in [0, 1) for ``key``, evenly spread over keys and independent between purposes."""
    return (_hash(purpose, key) >> 203) / 2**53


def is_held_out(opening: str, eval_fraction: float) -> bool:
    """Whether prompts with this opening are kept from training, in every stage."""
    return fraction("held-out", opening) < eval_fraction


def assign(offers: Iterable[tuple[str, Iterable[str]]]) -> Mapping[str, str]:
    """The one stage each opening goes to: of all the stages it is offered to, in equal shares.

    Args:
        offers: an opening and the stages that could use it; an opening may come several times, from several sources.
    """
    union: dict[str, set[str]] = {}
    for opening, stages in offers:
        union.setdefault(opening, set()).update(stages)
    return {opening: _choose(opening, stages) for opening, stages in union.items() if stages}


def generator(*names: str | int) -> random.Random:
    """A random stream of its own for these names, the same in every process."""
    return random.Random(_hash(*names))


def _choose(opening: str, stages: set[str]) -> str:
    ordered = sorted(stages, key=PARTS.index)
    return ordered[int(fraction("stage", opening) * len(ordered))]


def _hash(*names: str | int) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest())
