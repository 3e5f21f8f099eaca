"""What ``doctor`` says of small runs with historic bugs (``tests/doctor/bugs.py``), put back one at a time.

``python -m tests.doctor.mutants`` trains the parents, then for each bug a run with it and one without, and prints the table of
docs/doctor.md. A bug is named by a finding that the run without it does not have.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.doctor.examine import examine
from rlhf.report.folder import read
from tests.doctor.bugs import MUTANTS, Mutant, nothing
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


class Ward:
    """Runs with bugs and without, all in one folder."""

    def __init__(self, outputs: Path, given: Sequence[str]) -> None:
        self._outputs, self._given = outputs, given
        self._healthy: dict[tuple[str, ...], list[str]] = {}

    def with_bug(self, mutant: Mutant) -> list[str]:
        """What is found in a run with the bug."""
        with pytest.MonkeyPatch.context() as patch:
            mutant.put_back(patch)
            return self._found(mutant.name, self._words(mutant, mutant.settings))

    def without(self, mutant: Mutant) -> list[str]:
        """What is found in the same run without it; where settings are the bug, without these."""
        words = self._words(mutant, () if mutant.put_back is nothing else mutant.settings)
        if words not in self._healthy:
            self._healthy[words] = self._found("healthy", words)
        return self._healthy[words]

    def names(self, mutant: Mutant) -> bool:
        """Whether the bug is named, and not without it."""
        return mutant.finding in self.with_bug(mutant) and mutant.finding not in self.without(mutant)

    def _words(self, mutant: Mutant, settings: Sequence[str]) -> tuple[str, ...]:
        parents = () if mutant.stage == "sft" or mutant.own_parents else self._given
        return (f"stage={mutant.stage}", *SIZE, *SHORT[mutant.stage], *parents, *mutant.needs, *settings)

    def _found(self, name: str, words: Sequence[str]) -> list[str]:
        result = chain.execute(make_run(self._outputs / name, *words), pages=False)
        assert result.reason != "crash", result.message  # that would be this file's own bug
        return list(dict.fromkeys(each.name for each in examine(read(Path(result.folder)))))


def main(*names: str) -> int:
    """Print the table, of all or of those named; how many are not seen."""
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"no such bug: {', '.join(sorted(unknown))}; see tests/doctor/bugs.py")
    with tempfile.TemporaryDirectory() as folder:
        ward, named = Ward(Path(folder), parents(Path(folder))), 0
        chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
        for mutant in chosen:
            said, healthy = ward.with_bug(mutant), ward.without(mutant)
            seen = mutant.finding in said and mutant.finding not in healthy
            named += seen
            told = f"`{mutant.finding}`" if seen else "without the bug, too" if mutant.finding in said else "not seen"
            others = ", ".join(name for name in said if name != mutant.finding)
            row = (f"`{mutant.name}`", mutant.issues, mutant.stage, mutant.how, told, others, ", ".join(healthy))
            print(f"| {' | '.join(row)} |", flush=True)
        print(f"\n{named} of {len(chosen)} are named")
    return len(chosen) - named


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
