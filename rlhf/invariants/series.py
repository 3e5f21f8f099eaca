"""All invariances of a run, one after another, and the record of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rlhf import checks
from rlhf.config import Run
from rlhf.engine.base import NonFinite
from rlhf.fault import Fault
from rlhf.invariants import compare, group
from rlhf.invariants.judge import Judged, Verdict, judge, sum_up
from rlhf.invariants.repeat import Outcome, repeat
from rlhf.invariants.starts import UNTRAINED, starts
from rlhf.invariants.truth import Truth
from rlhf.invariants.ways import Invariance, Way, invariances


@dataclass(frozen=True)
class Told:
    """An invariance, the verdict on it and a line of text, and its ways."""

    invariance: Invariance
    verdict: Verdict
    text: str
    ways: list[Judged]


class Series:
    """Recorded updates of a run, and what came of repeating them."""

    def __init__(self, run: Run, config: DictConfig, work: Path, updates: int) -> None:
        """Record ``updates`` updates in the folder ``work``.

        Raises:
            Fault: something the user named cannot be used, or the updates are no numbers.
        """
        self._run = run
        paths, self._parents = starts(run, work)
        try:
            self._truth = Truth.record(config, paths, work, updates)
        except NonFinite as error:
            raise Fault(f"stage={run.stage}: {error} on plain torch already, so there is nothing to compare with") from error
        self._told: list[Told] = []

    def head(self) -> str:
        """What is repeated, and what it starts from."""
        truth, run = self._truth, self._run
        lines = [
            f"stage={run.stage}, model={run.model.name}: {truth.updates} updates of {truth.size} rows, recorded with plain "
            f"torch in fp32; they move the weights by {truth.moved:.1e} of their size"
        ]
        for name, what in self._parents.items():
            hint = f", untrained (parents.{name}=FOLDER takes yours)" if what == UNTRAINED else ""
            lines.append(f"  from stage={name}: {what}{hint}")
        return "\n".join(lines)

    def lines(self, wanted: list[str]) -> Iterator[Told]:
        """Try every invariance, or those ``wanted``, and tell of each as it is known."""
        truth = self._truth
        every = invariances(self._run, truth.size, truth.updates, truth.vocabulary > 0, truth.paddable)
        chosen = [each for each in every if not wanted or each.name in wanted]
        far = [way for each in chosen for way in each.ways if way.ranks and not self._refused(way)]
        found = group.outcomes(far, truth, truth.updates) if far else iter(())
        for each in chosen:
            judged = []
            for way in each.ways:
                outcome = self._refused(way) or (next(found) if way.ranks else self._repeat(way, truth.updates))
                judged.append(judge(way, outcome, truth, self._again))
            told = Told(each, *sum_up(each, judged, len(truth.answers)), judged)
            self._told.append(told)
            yield told

    def _repeat(self, way: Way, updates: int) -> Outcome:
        try:
            return repeat(way, self._truth, updates)
        except Exception as error:  # the other ways may do
            return Outcome(broke=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")

    def _again(self, way: Way, updates: int) -> Outcome:
        """A way up to an update, on its ranks if it has any."""
        return next(group.outcomes([way], self._truth, updates)) if way.ranks else self._repeat(way, updates)

    def _refused(self, way: Way) -> Outcome | None:
        """What the checks have against a way, as its outcome; None: nothing."""
        try:
            faults = checks.faults(self._truth.run(way.overrides))
        except Fault as fault:
            faults = [str(fault)]
        return Outcome(why_not=faults[0]) if faults else None

    @property
    def sound(self) -> bool:
        """Whether nothing differed and nothing broke."""
        return not any(each.verdict in (Verdict.differs, Verdict.broke) for each in self._told)

    def summary(self) -> str:
        """A sentence on all of them."""
        counts = {verdict: sum(each.verdict is verdict for each in self._told) for verdict in Verdict}
        return ", ".join(f"{count} {verdict.name.replace('_', ' ')}" for verdict, count in counts.items() if count) + "."

    def record(self) -> dict[str, Any]:
        """Everything, for ``invariants.json``."""
        truth = self._truth
        return {
            "stage": self._run.stage,
            "model": self._run.model.name,
            "sound": self.sound,
            "parents": self._parents,
            "updates": truth.updates,
            "rows": truth.size,
            "moved": truth.moved,
            "tolerances": {
                "figures": f"{compare.FIGURES:g} x max({compare.SMALL:g}, |x|)",
                "weights": compare.WEIGHTS,
                "gradients": compare.GRADIENTS,
            },
            "plain": truth.rows,
            "invariances": [
                {
                    "name": each.invariance.name,
                    "verdict": each.verdict.name,
                    "said": each.text,
                    "ways": [{**vars(way), "verdict": way.verdict.name} for way in each.ways],
                }
                for each in self._told
            ],
        }
