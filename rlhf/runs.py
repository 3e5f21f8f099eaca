"""From what a person writes for a run to its folder: the folder itself, its name in `outputs/runs`, or how these begin."""

import fcntl
import glob
from pathlib import Path

from omegaconf import OmegaConf

from rlhf.config import CONF
from rlhf.fault import Fault
from rlhf.result import Result
from rlhf.sealed import is_sealed

CONFIG = "config.yaml"
LOCK = ".lock"
"""File in the folder of a run, which the process that is at it holds."""
STUDY_LOCK = "lock"
"""The same in the folder of a study."""


def usual() -> Path:
    """Where runs are when nobody says otherwise."""
    return Path(OmegaConf.load(CONF / "config.yaml").paths.outputs) / "runs"


def folder_of(word: str, outputs: str | None = None) -> Path:
    """The folder of the run that ``word`` means; names are looked for in ``outputs`` (None: where runs usually are).

    Raises:
        Fault: there is none, or several names begin so.
    """
    runs = usual() if outputs is None else Path(outputs) / "runs"
    for folder in (Path(word), runs / word):
        if (folder / CONFIG).is_file():
            return folder
    beginning = Path(word) if "/" in word else runs / word
    found = beginning.parent.glob(f"{glob.escape(beginning.name)}*/{CONFIG}") if beginning.name.strip(".") else []
    near = sorted(path.parent for path in found)
    if len(near) == 1:
        return near[0]
    hint = f"did you mean {', '.join(path.name for path in near)}?" if near else f"runs are in {runs}"
    raise Fault(f"{word}: is not the folder of a run (it has no {CONFIG}); {hint}")


def is_at_work(folder: Path) -> bool:
    """Whether a process holds the run or the study in ``folder``; tried for a moment, which one that comes then waits for."""
    for path in (folder / LOCK, folder / STUDY_LOCK):
        if path.is_file():
            with path.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
    return False


def run_of(result: Result, study: Path) -> Path | None:
    """The folder of the run that a trial of ``study`` ended as, also where `outputs` was moved; None if it has none."""
    near = (Path(result.folder), study.resolve().parents[1] / "runs" / Path(result.folder).name)
    return next((each for each in near if result.folder and (each / CONFIG).is_file()), None)


def artifact_of(word: str, outputs: str | None = None) -> Path:
    """The folder of the artifact that ``word`` means; names of runs are looked for in ``outputs`` (None: the usual place).

    Raises:
        Fault: there is none.
    """
    if (found := _artifact_at(Path(word))) is not None:
        return found
    if (found := _artifact_at(folder_of(word, outputs))) is None:
        raise Fault(f"{word}: this run has no artifact; it did not finish, and the same command goes on with it")
    return found


def artifact_in(folder: str) -> Path:
    """The artifact that ``folder`` is, or holds as that of a run.

    Raises:
        Fault: neither.
    """
    if (found := _artifact_at(Path(folder))) is None:
        raise Fault(f"{folder}: is neither the folder of a finished run nor that of an artifact; write it in full")
    return found


def _artifact_at(folder: Path) -> Path | None:
    return next((each for each in (folder, folder / "artifact") if is_sealed(each)), None)
