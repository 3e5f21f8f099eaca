"""The sweeper's side of pruning: looks into the folders of its trials for questions and leaves a verdict on each.

All it knows is on the disk: the values in the runs' ``metrics.jsonl``, the verdicts in the trials' folders. So a sweeper
that was killed and started again has the same history, and what has been decided stays decided.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf import verdicts
from rlhf.config import Pruner, SweepConfig
from rlhf.result import Objective, Result, Status
from rlhf.verdicts import Question, Verdict
from sweeps.curves import Curve, Curves
from sweeps.pruning import Judgement

Trials = Mapping[int, Path]
"""Folders of trials by number."""


@dataclass(frozen=True)
class Ruling:
    """The verdict on ``trial`` after ``round`` rounds."""

    trial: int
    round: int
    verdict: Verdict


class Judge:
    """Answers the trials of a study."""

    def __init__(self, sweep: SweepConfig, objectives: Sequence[Objective]) -> None:
        self._judgement, self._curves = Judgement(sweep, objectives), Curves()
        self._idle = sweep.pruner is Pruner.none

    @property
    def rules(self) -> bool:
        """Whether there is a pruner."""
        return not self._idle

    def watch(self, trials: Trials) -> list[Ruling]:
        """Leave a verdict on every rung where one of ``trials`` waits; return those that were decided here.

        To be called every fraction of a second, with all trials, those that ended included: they are what the others are
        compared with. Without a pruner nothing is read.
        """
        if self._idle:
            return []
        waiting = [(number, question) for number, folder in trials.items() if (question := verdicts.waiting(folder))]
        if not waiting:
            return []
        curves = self._all_curves(trials)
        rulings = []
        for number, question in sorted(waiting, key=lambda each: each[0]):
            verdict = self._verdict(number, question, _others(number, trials, curves), curves[number])
            if verdicts.settle(trials[number], question.round, verdict) == verdict:  # else it waited no longer
                rulings.append(Ruling(number, question.round, verdict))
        return rulings

    def promotable(self, trials: Trials, running: Collection[int] = ()) -> list[int]:
        """Pruned trials that are among those which go on, now that more have come as far; those that went furthest first.

        Each may be run again from its checkpoint after ``readmit``. Those that are ``running`` are only compared with.
        """
        if self._idle:
            return []
        still = {number: folder for number, folder in trials.items() if number not in running}
        pruned = {number: found for number, folder in still.items() if (found := _pruned_at(folder)) is not None}
        curves = self._all_curves(trials) if pruned else {}
        again = []
        for number, question in pruned.items():
            curve = _until(curves[number], question)
            if self._judgement.promotable(number, curve, _others(number, trials, curves)):
                again.append((-len(curve), number))
        return [number for _, number in sorted(again)]

    def readmit(self, folder: Path) -> None:
        """Let the pruned trial in ``folder`` go on past the rung where it ended."""
        question = _pruned_at(folder)
        assert question is not None, "only pruned trials are readmitted"
        verdicts.overrule(folder, question.round, Verdict(True, "the study", "is among the best after all"))

    def _verdict(self, number: int, question: Question, others: Mapping[int, Curve], whole: Curve) -> Verdict:
        curve = _until(whole, question)
        if not curve or curve[-1].round != question.round:
            return Verdict(True, "the study", f"found no evaluation of round {question.round} in {question.run}")
        return self._judgement.verdict(number, curve, others)

    def _all_curves(self, trials: Trials) -> dict[int, Curve]:
        runs = {number: _run_of(folder) for number, folder in trials.items()}
        return {number: self._curves.of(run) if run is not None else [] for number, run in runs.items()}


def _others(number: int, trials: Trials, curves: Mapping[int, Curve]) -> dict[int, Curve]:
    """The curves that a trial is compared with; one that failed in the end, however well it began, takes nobody's place."""
    return {other: curve for other, curve in curves.items() if other != number and not _failed(trials[other])}


def _failed(trial: Path) -> bool:
    result = Result.read(trial / "result.json")
    return result is not None and result.status in (Status.failed, Status.infeasible)


def _run_of(trial: Path) -> Path | None:
    """The run of a trial's own stage, by what it asked or how it ended; None if it has not begun it."""
    if said := verdicts.asked(trial):
        return said[-1].run
    result = Result.read(trial / "result.json")
    return Path(result.folder) if result is not None and result.status is Status.finished else None


def _pruned_at(trial: Path) -> Question | None:
    """Where a trial ended that its study has pruned."""
    said = verdicts.asked(trial)
    verdict = verdicts.given(trial, said[-1].round) if said else None
    return said[-1] if verdict is not None and not verdict.go else None


def _until(curve: Curve, question: Question) -> Curve:
    return [point for point in curve if point.round <= question.round]
