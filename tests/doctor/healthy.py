"""Runs that learn, in which ``doctor`` must find no error and next to no warning.

``python -m tests.doctor.healthy`` trains all stages below with five seeds, or those named, and prints what is found.
"""

import sys
import tempfile
from pathlib import Path

from rlhf import chain
from rlhf.doctor.examine import examine
from rlhf.doctor.finding import Finding, Severity
from rlhf.doctor.live import TOLD
from rlhf.report.folder import read, rows
from rlhf.result import Status
from tests.doctor.mutants import PARENTS, SIZE
from tests.stages.small import make_run

STAGES = ("sft", "rm", "ppo", "kto", "best_of_n")
LEARNS = (
    *("evaluation.examples=512", "ppo.updates=8"),
    *("kto.max_steps=100", "kto.epochs=8", "kto.batch_size=32", "kto.micro_batch_size=16"),
    *("kto.learning_rate=5e-4", "kto.beta=0.3", "kto.warmup_steps=10"),
    *("best_of_n.updates=8", "best_of_n.n=8", "best_of_n.batch_size=32", "best_of_n.micro_batch_size=16"),
    *("best_of_n.ended_only=true", "best_of_n.learning_rate=3e-3", "best_of_n.normalization_prompts=64"),
)


def train(outputs: Path, seed: int) -> dict[str, Path]:
    """The folder of each stage's run."""
    for stage in STAGES[2:]:  # the others are their parents
        result = chain.execute(make_run(outputs, f"stage={stage}", *SIZE, *PARENTS, *LEARNS, f"seed={seed}"), pages=False)
        assert result.status is Status.finished, result.message
    return {stage: next((outputs / "runs").glob(f"{stage}-*")) for stage in STAGES}


def judged(folder: Path) -> tuple[list[Finding], list[str]]:
    """What ``doctor`` finds in the end, and the names of what was told on the way."""
    return examine(read(folder)), [row["name"] for row in rows(folder / TOLD)]


def main(*seeds: str) -> int:
    """Print what is found in each run; how many have an error."""
    errors, crowded, runs = 0, 0, 0
    for seed in map(int, seeds or "12345"):
        with tempfile.TemporaryDirectory() as outputs:
            for stage, folder in train(Path(outputs), seed).items():
                found, told = judged(folder)
                runs += 1
                errors += any(each.severity is Severity.error for each in found)
                crowded += len(found) > 1
                print(f"| {stage} | {seed} | {', '.join(each.name for each in found)} | {', '.join(told)} |", flush=True)
    print(f"{runs} runs: {errors} with an error, {crowded} with more than one finding")
    return errors


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
