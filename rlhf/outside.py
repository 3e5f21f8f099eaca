"""`torchrun` or `deepspeed` around the command: rank 0 goes on as the one command, which starts ranks of its own.

The other processes end at once, since a stage is started by one process that knows the whole chain (see ``rlhf.ranks``).
"""

import os
import re
from dataclasses import dataclass
from typing import Self

SET_BY_LAUNCHERS = re.compile(
    r"(LOCAL_|GROUP_|CROSS_|ROLE_)?(RANK|WORLD_SIZE)|(LOCAL|CROSS)_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
)
LOCAL_RANK = re.compile(r"--local[-_]rank=\d+")


@dataclass(frozen=True)
class Launcher:
    """What started this process as one of several."""

    rank: int
    processes: int
    here: int
    """Of them on this machine."""

    @classmethod
    def left(cls) -> Self | None:
        """The launcher that the environment tells of, taken out of it so that our own ranks start afresh; None without one."""
        told = {name: os.environ.pop(name) for name in list(os.environ) if SET_BY_LAUNCHERS.fullmatch(name)}
        if not {"RANK", "WORLD_SIZE"} <= told.keys():
            os.environ.update(told)
            return None
        processes = int(told["WORLD_SIZE"])
        return cls(int(told["RANK"]), processes, int(told.get("LOCAL_WORLD_SIZE", told.get("LOCAL_SIZE", processes))))

    def faults(self, ranks: int) -> list[str]:
        """What keeps it from starting a run on ``ranks`` processes."""
        if self.here != self.processes:
            return [f"{self.processes} processes on several machines: ranks are those of one machine; start the command on one"]
        if self.processes != ranks:
            return [f"ranks={ranks}: {self.processes} processes were started around the command; say ranks={self.processes}"]
        return []


def without_local_rank(arguments: list[str]) -> list[str]:
    """``arguments`` without the rank that DeepSpeed's launcher adds."""
    return [each for each in arguments if not LOCAL_RANK.fullmatch(each)]
