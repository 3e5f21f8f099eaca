"""One rank of a group that repeats recorded updates: ``python -m rlhf.invariants.rank FOLDER``."""

import os
import signal
import sys
import warnings
from pathlib import Path

import torch.distributed as dist

from rlhf.engine.deepspeed_engine import DeepSpeedEngine
from rlhf.invariants import group
from rlhf.invariants.repeat import repeat
from rlhf.stopping import die_with


def main(folder: Path) -> None:
    """Every way in turn; rank 0 writes down what came of it."""
    die_with(os.getppid())
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # of what DeepSpeed calls
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    truth, updates, ways = group.ways_of(folder)
    for way in ways:
        outcome = repeat(way, truth, updates, DeepSpeedEngine)
        if int(os.environ["RANK"]) == 0:
            with (folder / group.ANSWERS).open("a") as answers:
                answers.write(group.write(outcome))
    if dist.is_initialized():
        dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # what was to be told is told; a thread of gloo's may abort a process that takes the group down


if __name__ == "__main__":
    main(Path(sys.argv[1]))
