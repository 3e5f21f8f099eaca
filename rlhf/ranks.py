"""One stage on several processes: started here through torch's elastic agent, watched, and turned into one typed result.

The parent keeps the command line, the chain and the signals. A stop is passed on as a file, which rank 0 looks for after
every round, so it does not matter who received the signal. The ranks and their agent die with the parent.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import torch
from omegaconf import OmegaConf

from rlhf.artifact import Artifact
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.identity import Identity
from rlhf.result import Result
from rlhf.sealed import write_atomically
from rlhf.stopping import StopRequest

JOB, STOP = "job.json", ".stop"


@dataclass(frozen=True)
class Job:
    """What each rank must know: the run, what it is called, where its parents are, and who may end it early."""

    run: Run
    identity: Identity
    parents: Mapping[str, Artifact]
    trial: Path | None = None
    """The folder in which a study leaves its verdicts; null: nobody ends the run early."""

    def save(self) -> None:
        """Write it into the run's folder, beside ``config.yaml``."""
        parents = {name: {**asdict(each), "path": str(each.path)} for name, each in self.parents.items()}
        identity = {**asdict(self.identity), "folder": str(self.identity.folder)}
        content = {"identity": identity, "parents": parents, "trial": self.trial and str(self.trial)}
        write_atomically(self.identity.folder / JOB, json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read it back."""
        content = json.loads((folder / JOB).read_text())
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Run), OmegaConf.load(folder / "config.yaml")))
        assert isinstance(run, Run)
        parents = {name: Artifact(**{**each, "path": Path(each["path"])}) for name, each in content["parents"].items()}
        trial = content["trial"] and Path(content["trial"])
        return cls(run, Identity(**{**content["identity"], "folder": folder}), parents, trial)


class StopFile:
    """The ranks' side of a stop."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STOP

    @property
    def reason(self) -> str:
        """`interrupted` or `preempted`; empty while nobody asked."""
        return self._path.read_text() if self._path.exists() else ""

    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._path.exists()


def ended_by(rank: int, folder: Path) -> Path:
    """Where a rank that could not go on says why."""
    return folder / f".rank{rank}.json"


def start(module: str, folder: Path, ranks: int, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start ``ranks`` processes of ``module``, each handed ``folder``, under a parent whose end is theirs.

    ``output`` takes what they print; None: it goes where ours does.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // ranks))
    accelerator = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}  # else it warns that it found none
    return subprocess.Popen(
        [sys.executable, "-m", "rlhf.agent", module, str(folder), str(ranks), str(os.getpid())],
        env={"OMP_NUM_THREADS": threads, **accelerator, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
        stdout=output,
        stderr=output,
    )


def launch(job: Job, lost: Result, stop: StopRequest) -> Result:
    """Run ``job`` on `ranks` processes and return its result, or ``lost`` if they ended without one.

    Raises:
        Fault: something the user named cannot be used.
    """
    folder, ranks = job.identity.folder, job.run.ranks
    for left in (folder / "result.json", folder / STOP, *(ended_by(rank, folder) for rank in range(ranks))):
        left.unlink(missing_ok=True)
    job.save()
    process = start("rlhf.rank", folder, ranks)
    try:
        while process.poll() is None:
            if stop.requested() and not (folder / STOP).exists():
                write_atomically(folder / STOP, stop.reason)
            time.sleep(0.05)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        (folder / STOP).unlink(missing_ok=True)
    results = [Result.load(folder / "result.json")] if (folder / "result.json").exists() else []
    told = []
    for said in filter(Path.exists, (ended_by(rank, folder) for rank in range(ranks))):
        told.append(json.loads(said.read_text()))
        said.unlink()
    for content in told:
        if "fault" in content:
            raise Fault(content["fault"])
        results.append(Result.parse(content))
    lost.message = f"a rank ended without a word (exit code {process.returncode})"
    # when one rank is gone the others see a broken connection; who knows more is believed
    return next((result for result in results if result.reason != "rank_lost"), (results or [lost])[0])
