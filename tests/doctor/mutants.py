"""What ``doctor`` says of small runs with historic bugs (``tests/doctor/bugs.py``), put back one at a time.

``python -m tests.doctor.mutants`` trains the parents, then one run for each bug, and prints the table of docs/doctor.md.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.doctor.examine import examine
from rlhf.doctor.finding import Finding
from rlhf.report.folder import read
from tests.doctor.bugs import MUTANTS, Mutant
from tests.stages.small import make_run

SOURCES = ("documents", "demonstrations", "preferences", "prompts")
SIZE = (
    *("data=demo", *(f"data.sources.{source}.cap=600" for source in SOURCES)),
    *("rollout.max_new_tokens=40", "rollout.micro_batch_size=64"),
    *("evaluation.prompts=64", "evaluation.examples=128", "evaluation.micro_batch_size=64"),
    *("ppo.batch_size=32", "ppo.micro_batch_size=16", "ppo.updates=4", "ppo.inner_epochs=2", "ppo.normalization_prompts=64"),
)
PARENTS = (
    *(
        "sft.max_steps=150",
        "sft.epochs=8",
        "sft.batch_size=32",
        "sft.micro_batch_size=16",
        "sft.learning_rate=5e-3",
        "sft.warmup_steps=10",
    ),
    *("rm.max_steps=60", "rm.epochs=4", "rm.batch_size=32", "rm.micro_batch_size=16", "rm.learning_rate=2e-3"),
)
"""A policy whose answers end, and a reward model that tells some of them apart."""
SHORT = {
    "sft": ("sft.max_steps=8", "sft.log_every=1", "sft.warmup_steps=0"),
    "rm": ("rm.max_steps=8", "rm.log_every=1", "rm.warmup_steps=0"),
    "dpo": ("dpo.max_steps=6", "dpo.log_every=1", "dpo.warmup_steps=0"),
    "kto": ("kto.max_steps=6", "kto.log_every=1", "kto.warmup_steps=0"),
    "ppo": (),
    "best_of_n": ("best_of_n.n=4", "best_of_n.batch_size=16", "best_of_n.normalization_prompts=64"),
}


def parents(outputs: Path) -> tuple[str, ...]:
    """Train what the mutants start from; the overrides that name it."""
    result = chain.execute(make_run(outputs, "stage=ppo", *SIZE, *PARENTS, "ppo.updates=1"), pages=False)
    assert result.artifact is not None, result.message
    made = {name: next((outputs / "runs").glob(f"{name}-*/artifact")) for name in ("sft", "rm")}
    return tuple(f"parents.{name}={path}" for name, path in made.items())


def diagnosed(mutant: Mutant, outputs: Path, given: Sequence[str], patch: pytest.MonkeyPatch) -> list[Finding]:
    """Put the bug back, train, and ask."""
    wanted = () if mutant.stage == "sft" or mutant.own_parents else given
    run = make_run(outputs, f"stage={mutant.stage}", *SIZE, *SHORT[mutant.stage], *wanted, *mutant.settings)
    mutant.put_back(patch)
    result = chain.execute(run, pages=False)
    assert result.reason != "crash", result.message  # that would be this file's own bug
    return examine(read(Path(result.folder)))


def main(*names: str) -> None:
    """Print the table, of all or of those named."""
    with tempfile.TemporaryDirectory() as folder:
        given, named, rows = parents(Path(folder)), 0, []
        chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
        for mutant in chosen:
            with pytest.MonkeyPatch.context() as patch:
                found = diagnosed(mutant, Path(folder) / mutant.name, given, patch)
            said = list(dict.fromkeys(each.name for each in found))
            named += mutant.finding in said
            told = f"`{mutant.finding}`" if mutant.finding in said else "not seen"
            others = ", ".join(name for name in said if name != mutant.finding)
            rows.append(f"| `{mutant.name}` | {mutant.issues} | {mutant.stage} | {mutant.how} | {told} | {others} |")
            print(rows[-1], flush=True)
        print("\n".join(rows), f"\n{named} of {len(chosen)} are named", sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
