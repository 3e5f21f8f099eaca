"""What a study is after: objectives with their directions, and constraints that a good point has to keep."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf import followed
from rlhf.config import Goal as Better
from rlhf.config import Run
from rlhf.constraint import Constraint
from rlhf.fault import Fault
from rlhf.result import COSTS, Objective, Result, Status


@dataclass(frozen=True)
class Goal:
    """Objectives in the order written, and constraints."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]

    @classmethod
    def of(cls, run: Run) -> "Goal":
        """What the study of ``run`` asks for; without a word of it, what its stage follows.

        Raises:
            Fault: something is not written as it should be.
        """
        sweep = run.sweep
        for said in sweep.objective or ():
            _see_that_it_is_measured(run, f"sweep.objective: {said}", said.split()[-1] if said.split() else "")
        written = tuple(_objective(each, followed.measured(run, run.stage)) for each in sweep.objective or ())
        objectives = written or (followed.objective(run, run.stage),)
        metrics = [each.metric for each in objectives]
        if len({*metrics}) < len(metrics):
            raise Fault(f"sweep.objective=[{','.join(sweep.objective or [])}]: names a metric twice; name each once")
        constraints = tuple(map(Constraint.parse, sweep.constraints))
        for each in constraints:
            _see_that_it_is_measured(run, f"sweep.constraints: {each}", each.metric)
        return cls(objectives, constraints)

    def values(self, result: Result) -> list[float] | None:
        """The objectives of a finished run; None if it did not finish, or one of them is missing or not finite."""
        if result.status is not Status.finished:
            return None
        measured = measurements(result)
        values = [measured.get(each.metric, math.nan) for each in self.objectives]
        return values if all(map(math.isfinite, values)) else None

    def missing(self, result: Result) -> list[str]:
        """Objectives that a finished run did not measure, or not as a number."""
        measured = measurements(result)
        return [each.metric for each in self.objectives if not math.isfinite(measured.get(each.metric, math.nan))]

    def broken(self, result: Result) -> list[str]:
        """Constraints that ``result`` does not keep; one whose metric was not measured is not kept."""
        measured = measurements(result)
        return [str(each) for each in self.constraints if (excess := each.excess(measured)) is None or excess > 0]

    def dominates(self, first: Sequence[float], second: Sequence[float]) -> bool:
        """Whether ``first`` is nowhere worse than ``second`` and somewhere better."""
        signed = [
            (a, b) if each.direction == "minimize" else (-a, -b)
            for each, a, b in zip(self.objectives, first, second, strict=True)
        ]
        return all(a <= b for a, b in signed) and any(a < b for a, b in signed)

    def __str__(self) -> str:
        said = ", ".join(f"{each.direction} {each.metric}" for each in self.objectives)
        return said + "".join(f", {each}" for each in self.constraints)


def measurements(result: Result) -> dict[str, float]:
    """The metrics of a result, and what it took under the names of ``COSTS``."""
    return {**result.took(), **result.metrics}


def _see_that_it_is_measured(run: Run, where: str, metric: str) -> None:
    """Raise a fault if no trial can measure ``metric``, rather than pay for all of them and find it missing."""
    ends = ("_low", "_high") if run.sweep.seeds > 1 else ()  # the mean over seeds has an interval in every metric
    names = {metric, *(metric.removesuffix(end) for end in ends)}
    if metric not in COSTS and not any(followed.can_measure(run.stage, name) for name in names):
        known = [*followed.measured(run, run.stage), *COSTS, *followed.OF_TRAINING]
        close = difflib.get_close_matches(metric, known, 1)
        choose = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
        raise Fault(f"{where}: no run of stage={run.stage} measures it; {choose}")


def _objective(written: str, measured: Mapping[str, Better | None]) -> Objective:
    *said, metric = written.split()
    if len(said) == 1 and said[0] in ("minimize", "maximize"):
        return Objective(metric, "minimize" if said[0] == "minimize" else "maximize")
    better = Better.minimize if metric in COSTS else measured.get(metric)
    if said or better is None:
        raise Fault(f"sweep.objective: {written}: say which way is better, as in 'maximize {metric}' or 'minimize {metric}'")
    return Objective(metric, "minimize" if better is Better.minimize else "maximize")
