"""How a stage ends that does not finish, as its ``Result`` tells it."""

import traceback
from pathlib import Path

import torch

from rlhf import provenance
from rlhf.config import Run
from rlhf.identity import Identity
from rlhf.result import Result, Status
from rlhf.stopping import Stop


def unfinished(run: Run, identity: Identity) -> Result:
    """The result of a stage that has just begun: a failure, until it ends."""
    return Result(
        status=Status.failed,
        stage=identity.stage,
        model=run.model.name,
        run_signature=identity.run_signature,
        result_signature=identity.result_signature,
        folder=str(identity.folder),
        parents=identity.parents,
        seed=run.seed,
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


def stopped_at_once(result: Result, stop: Stop) -> None:
    """Somebody asked twice: the round in hand is given up."""
    result.status, result.reason, result.message = Status.stopped, stop.reason, "stopped at once, without a new checkpoint"


def broken(error: Exception, result: Result, folder: Path) -> None:
    """An exception: memory that ran out, a rank that is gone, or a crash, whose traceback is kept in ``folder``."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
        result.status, result.reason, result.message = Status.infeasible, "oom", first or "out of memory"
        return
    if isinstance(error, RuntimeError) and "onnection" in text and "peer" in text:  # what gloo and nccl say of each other
        result.status, result.reason, result.message = Status.failed, "rank_lost", "another rank is gone"
        return
    (folder / "crash.txt").write_text("".join(traceback.format_exception(error)))
    result.status, result.reason = Status.failed, "crash"
    result.message = f"{type(error).__name__}: {first} (traceback in {folder / 'crash.txt'})"
