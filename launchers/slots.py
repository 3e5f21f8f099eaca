"""What a trial occupies on this machine: GPUs of its own where there are any, and its share of the cores.

The GPUs are found without touching CUDA, which would spoil every process forked from here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.config import Device, Run
from rlhf.fault import Fault

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
FIRST_GPU = Path("/dev/nvidia0")
UNSEEN = (
    f"{FIRST_GPU} is there, but nvidia-smi could not be asked which GPUs there are, so trials are not kept apart and may share "
    "one; name them by CUDA_VISIBLE_DEVICES=0,1, or say device=cpu"
)
_LISTED = re.compile(r"^(?P<card>GPU) \d+:.*\(UUID: (?P<gpu>[^)]+)\)|^\s+MIG .*\(UUID: (?P<part>[^)]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Slot:
    """The place of one trial. ``threads`` are those of one of its ranks; ``devices`` as ``CUDA_VISIBLE_DEVICES`` names them."""

    threads: int
    devices: tuple[str, ...] | None = None
    """null: this machine has no GPU, or none that we were told of; empty: it has some, and the trial does without."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that keep the trial to its place."""
        counts = {name: str(self.threads) for name in COUNTS}
        return counts if self.devices is None else {**counts, "CUDA_VISIBLE_DEVICES": ",".join(self.devices)}


class Slots:
    """The places of a machine. Every GPU belongs to one trial at a time; without GPUs a place is a share of the cores."""

    def __init__(self, parallel: int | None, threads: int | None = None, devices: Sequence[str] = ()) -> None:
        """At most ``parallel`` trials at a time (null: as many as fit), each with ``threads`` in all (null: its share)."""
        self._devices, self._unused = tuple(devices), list(devices)
        self._parallel = parallel or max(1, len(devices) or cores())
        self._threads = threads
        self._taken = 0

    @classmethod
    def here(cls, parallel: int | None, threads: int | None = None) -> "Slots":
        """Those of this machine, as far as this process may see it."""
        return cls(parallel, threads, visible_devices())

    @property
    def free(self) -> int:
        """The most devices a trial could get now; on a machine without any, how many more trials can start."""
        left = self._parallel - self._taken
        return min(left, 1) * len(self._unused) if self._devices else left

    def at_once(self, devices: int = 1) -> int:
        """How many trials of so many devices run at the same time."""
        return min(self._parallel, len(self._devices) // devices) if self._devices and devices else self._parallel

    def remarks(self, devices: int) -> list[str]:
        """What a person should know before trials of so many devices start: GPUs left idle, or not seen."""
        if not devices:
            return []
        if not self._devices:
            return [UNSEEN] if _are_unseen() else []
        used, fit = self.at_once(devices), len(self._devices) // devices
        if used >= fit:
            return []
        idle, each = len(self._devices) - used * devices, "a GPU" if devices == 1 else f"{devices} GPUs"
        return [
            f"sweep.parallel={used}: with {each} a trial, {idle} of {len(self._devices)} GPUs stay idle; "
            f"sweep.parallel={fit} uses them, sweep.parallel=null always takes as many as fit"
        ]

    def require(self, devices: int) -> None:
        """See that a trial of so many devices can ever start.

        Raises:
            Fault: this machine has fewer.
        """
        if self._devices and devices > len(self._devices):
            has = f"{len(self._devices)} (CUDA devices {', '.join(self._devices)})"
            raise Fault(
                f"ranks={devices}: each rank needs a GPU of its own, and there are {has}; lower ranks, or say device=cpu"
            )

    def take(self, devices: int = 1, ranks: int = 1) -> Slot | None:
        """A place for a trial of ``ranks`` processes on so many devices; null while there is none."""
        wanted = devices if self._devices else 0
        if self._taken >= self._parallel or wanted > len(self._unused):
            return None
        threads = self._threads or cores() // max(1, self.at_once(devices))
        taken, self._unused = self._unused[:wanted], self._unused[wanted:]
        self._taken += 1
        return Slot(max(1, threads // ranks), tuple(taken) if self._devices else None)

    def give_back(self, slot: Slot) -> None:
        """The trial that had it has ended, with every process it had started."""
        self._taken -= 1
        self._unused = [each for each in self._devices if each in {*self._unused, *(slot.devices or ())}]


def devices_of(run: Run) -> int:
    """How many GPUs a run takes on a machine that has some: one a rank, or none."""
    return 0 if run.device is Device.cpu else run.ranks


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> tuple[str, ...]:
    """The GPUs this process may use: those ``CUDA_VISIBLE_DEVICES`` leaves, else those ``nvidia-smi`` lists (parts for MIG)."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        named = [name.strip() for name in given.split(",")]
        ends = next((at for at, name in enumerate(named) if name in ("", "-1", "NoDevFiles")), len(named))
        return tuple(dict.fromkeys(named[:ends]))
    said = _listing()
    return () if said is None else listed(said)


def _listing() -> str | None:
    """What ``nvidia-smi -L`` says; None where it cannot be asked."""
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _are_unseen() -> bool:
    """Whether the driver has a GPU, nobody said which ones to use, and ``nvidia-smi`` cannot be asked which there are."""
    return "CUDA_VISIBLE_DEVICES" not in os.environ and FIRST_GPU.exists() and _listing() is None


def listed(said: str) -> tuple[str, ...]:
    """The devices in what ``nvidia-smi -L`` says: every GPU by its UUID, or its MIG parts where it is cut up."""
    cards: list[list[str]] = []
    for found in _LISTED.finditer(said):
        if found["card"]:
            cards.append([found["gpu"]])
        else:
            cards[-1].append(found["part"])
    return tuple(name for card in cards for name in (card[1:] or card))
