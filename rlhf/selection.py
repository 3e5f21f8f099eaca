"""When a run has learnt enough, and which of its weights are kept: decided at its evaluations, by all ranks alike."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from rlhf import followed
from rlhf.config import EarlyStopConfig, Run
from rlhf.fault import Fault
from rlhf.metrics import Metric
from rlhf.result import Objective
from rlhf.stages.interface import Evaluation


@dataclass
class Selection:
    """Follows one metric of the evaluations."""

    config: EarlyStopConfig
    objective: Objective
    keep: Callable[[int], None] | None
    """Told of each evaluation that is the best so far, with the rounds done; None: the last weights are kept."""
    best: float | None = None
    best_round: int = 0
    waited: int = 0
    """Evaluations since the best one."""
    evaluated_round: int | None = None
    """Rounds done at the last evaluation of this session."""
    best_evaluation: Evaluation | None = None
    """That of the weights that are kept; None if it was measured in an earlier session."""

    def evaluated(self, round_: int, evaluation: Evaluation) -> bool:
        """Take in an evaluation after ``round_`` rounds; true when patience is at its end.

        An evaluation with a metric that is not finite, or that lacks it later on, counts as no improvement.

        Raises:
            Fault: the metric is not measured on this data; only before the first round.
        """
        self.evaluated_round = round_
        if self.keep is None and self.config.patience is None:
            return False
        metrics, name = evaluation.metrics, self.objective.metric
        if name not in metrics and round_ == 0:
            raise Fault(
                f"early_stop.metric={name}: is not measured on this data; choose from "
                f"{', '.join(each for each in metrics if not each.startswith(('baseline/', 'eval/pairs/')))}"
            )
        value = metrics[name].value if name in metrics else math.nan
        if self._improves(value):
            self.best, self.best_round, self.waited = value, round_, 0
            if self.keep is not None:
                self.best_evaluation = evaluation
                self.keep(round_)
        else:
            self.waited += 1
        return self.config.patience is not None and self.waited >= self.config.patience

    def moved_too_far(self, metrics: Mapping[str, Metric]) -> bool:
        """Whether the policy's KL to where it started, in this round's rollout, is above `early_stop.max_kl`."""
        limit = self.config.max_kl
        return limit is not None and "objective/kl" in metrics and metrics["objective/kl"].value > limit

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.objective.direction == "maximize" else self.best - value
        return gain > self.config.min_delta


def signature(run: Run, stage: str) -> dict[str, str]:
    """What may end ``stage`` early or choose its weights, and at which evaluations: part of its name only where it does."""
    stops, config = followed.early_stop(run, stage), getattr(run, stage)
    chosen: dict[str, object] = {}
    if config.keep_best or stops.patience is not None:
        chosen = asdict(followed.objective(run, stage)) | {"patience": stops.patience, "min_delta": stops.min_delta}
        chosen |= {"eval_every": config.eval_every, "evaluation": asdict(run.evaluation)}
        chosen |= {"eval_every_epoch": True} if getattr(config, "eval_every_epoch", False) else {}
    if stops.max_kl is not None:
        chosen["max_kl"] = stops.max_kl
    if not chosen:
        return {}
    return {"selection": hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]}
