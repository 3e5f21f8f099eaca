"""The parent of the ranks: ``python -m rlhf.agent MODULE FOLDER RANKS PARENT`` starts them, and ends all when one fails.

A process of its own, because torch's elastic agent wants the signals that the command line answers itself.
"""

import logging
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from rlhf.stopping import die_with


def main(module: str, folder: str, ranks: str, parent: str) -> int:
    """Run the ranks, each a process of ``module``, to their end; return 0, or what the first of them failed with."""
    die_with(int(parent))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what became of a rank is told by its result
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(ranks),
        run_id=Path(folder).name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, folder)
    except ChildFailedError as error:
        return max(1, *(failure.exitcode for failure in error.failures.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
