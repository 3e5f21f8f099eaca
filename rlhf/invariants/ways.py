"""What must not change what is learnt, and the ways of computing in which that is tried."""

from dataclasses import dataclass
from typing import Any

from rlhf.config import Run
from rlhf.invariants.updates import WHOLE

CACHE = "KV cache"
"""The one invariance of rollouts alone."""


@dataclass(frozen=True)
class Way:
    """One way of computing the recorded updates. It may not matter which."""

    what: str
    """For a person."""
    overrides: tuple[str, ...] = ()
    """Settings that are others than those of plain torch."""
    micro_batch_size: int = WHOLE
    padding: tuple[int, int] = (0, 0)
    """Columns of it left and right that are not needed."""
    chunk: int | None = None
    """Tokens whose logits are held at once; None: as many as there is room for."""
    resumed_after: int | None = None
    """Updates after which a checkpoint is written, and read by another process's stage; None: never."""
    ranks: int = 0
    """Processes of DeepSpeed; 0: plain torch in this one."""
    recomputes: bool = False
    """Sample without a cache, each token from the whole text before it."""


@dataclass(frozen=True)
class Invariance:
    """Something that must not matter."""

    name: str
    ways: tuple[Way, ...]
    why_not: str = ""
    """Why it cannot be tried here."""


def plain(run: Run) -> list[str]:
    """Overrides that make ``run`` one of plain torch on one device, which the others are held against."""
    off = [f"{run.stage}.{switch}=false" for switch in ("gradient_checkpointing", "packing") if _has(run, switch)]
    return ["zero=none", "offload=none", "ranks=1", "fresh=false", *off]


def invariances(run: Run, rows: int, updates: int, policy: bool, paddable: bool) -> list[Invariance]:
    """All of them, for updates of ``rows`` rows each.

    Args:
        run: as the user means to run it; how many ranks it has is tried, two at least.
        policy: whether the stage trains one, which gives log-probabilities and rollouts.
        paddable: whether its batches take more padding than they need.
    """
    without = f"stage={run.stage} trains no policy"
    packed = (f"{run.stage}.packing=true",)
    sizes = [size for size in (1, 3) if size < rows]
    return [
        Invariance("micro-batches", tuple(Way(f"{size} at once", _sampled(size), size) for size in sizes)),
        Invariance(
            "padding",
            (Way("5 columns left", padding=(5, 0)), Way("3 left, 7 right", _sampled(1), 1, padding=(3, 7))) if paddable else (),
            f"batches of stage={run.stage} hold no more padding than they need",
        ),
        Invariance(
            "checkpointing",
            (Way("recomputed", (f"{run.stage}.gradient_checkpointing=true",)),) if _has(run, "gradient_checkpointing") else (),
            f"{run.stage}.gradient_checkpointing: there is no such key",
        ),
        Invariance("log-probs", (Way("16 at once", chunk=16),) if policy else (), without),
        Invariance(CACHE, (Way("recomputed", recomputes=True),) if policy else (), without),
        Invariance("resume", (Way(f"after update {updates // 2}", resumed_after=updates // 2),)),
        *_on_ranks(run, rows, updates),
        Invariance(
            "packing",
            (Way("all at once", packed), *(Way(f"{size} at once", packed, size) for size in sizes[-1:]))
            if _has(run, "packing")
            else (),
            f"stage={run.stage} has no choice between packed rows and padded ones",
        ),
    ]


def _on_ranks(run: Run, rows: int, updates: int) -> list[Invariance]:
    """Those that need processes of their own: each rank holds half of its share at once."""
    ranks = max(2, run.ranks)
    size = max(1, rows // ranks // 2) if rows // ranks % 2 == 0 else 1

    def way(what: str, zero: int, offload: str = "none", *more: str, **settings: Any) -> Way:
        overrides = (f"zero={zero}", f"offload={offload}", f"ranks={ranks}", *more)
        return Way(what, overrides, micro_batch_size=size, ranks=ranks, **settings)

    return [
        Invariance("ranks", (way(f"{ranks} with zero=0", 0),)),
        Invariance(
            "ZeRO",
            (
                *(way(f"zero={zero}", zero) for zero in (1, 2, 3)),
                way("zero=3 with nothing kept whole", 3, "none", "deepspeed.persistence_threshold=0"),
                way(f"zero=2 resumed after update {updates // 2}", 2, resumed_after=updates // 2),
            ),
        ),
        Invariance(
            "offload",
            (
                *(way(f"optimizer with zero={zero}", zero, "optimizer") for zero in (1, 2, 3)),
                way("all with zero=3", 3, "all"),
            ),
        ),
    ]


def _sampled(size: int) -> tuple[str, ...]:
    return (f"rollout.micro_batch_size={size}",)


def _has(run: Run, switch: str) -> bool:
    """Whether the stage has the key ``switch``."""
    return hasattr(getattr(run, run.stage), switch)
