"""One rank of a stage, a process started by ``rlhf.ranks``: ``python -m rlhf.rank FOLDER``."""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

from rlhf import chain
from rlhf.engine.deepspeed_engine import DeepSpeedEngine
from rlhf.fault import Fault
from rlhf.ranks import Job, StopFile, ended_by
from rlhf.run import work
from rlhf.sealed import write_atomically
from rlhf.stopping import die_with


def main(folder: Path) -> int:
    """Do this rank's part of the job in ``folder``; return 1 if the other ranks cannot go on without it."""
    die_with(os.getppid())
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # of what DeepSpeed calls
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a stop comes as a file, to all ranks alike
    job, rank = Job.load(folder), int(os.environ["RANK"])
    run = job.run
    try:
        engine = DeepSpeedEngine(run)
        result = work(run, job.identity, job.parents, chain.load_corpus(run), engine, StopFile(folder), job.trial)
    except Fault as fault:
        write_atomically(ended_by(rank, folder), json.dumps({"fault": str(fault)}))
        return 1
    if result.reason in ("crash", "oom", "rank_lost"):
        write_atomically(ended_by(rank, folder), result.to_json())
        return 1
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
