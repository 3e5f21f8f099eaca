"""When a run has learnt enough, and which of its weights are kept: decided at its evaluations, by all ranks alike."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from rlhf.config import EarlyStopConfig, Goal, Run
from rlhf.metrics import Metric
from rlhf.result import OBJECTIVES


@dataclass
class Selection:
    """Follows one metric of the evaluations."""

    config: EarlyStopConfig
    stage: str
    keep: Callable[[int], None] | None
    """Told of each evaluation that is the best so far, with the rounds done; None: the last weights are kept."""
    best: float | None = None
    best_round: int = 0
    waited: int = 0
    """Evaluations since the best one."""

    @property
    def metric(self) -> str:
        """What is followed: the configured metric, or what a study of the stage optimises."""
        return self.config.metric or OBJECTIVES[self.stage].metric

    def evaluated(self, round_: int, metrics: Mapping[str, Metric]) -> bool:
        """Take in an evaluation after ``round_`` rounds; true when patience is at its end.

        An evaluation without the metric, or with one that is not finite, counts as no improvement.
        """
        value = metrics[self.metric].value if self.metric in metrics else math.nan
        if self._improves(value):
            self.best, self.best_round, self.waited = value, round_, 0
            if self.keep is not None:
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
        gain = value - self.best if self._goal is Goal.maximize else self.best - value
        return gain > self.config.min_delta

    @property
    def _goal(self) -> Goal:
        return self.config.goal if self.config.metric is not None else Goal[OBJECTIVES[self.stage].direction]


def signature(run: Run, stage: str) -> dict[str, str]:
    """What ``stage`` ends with hangs on where it is evaluated, and on what, if weights are selected by it; else nothing."""
    config = getattr(run, stage)
    if not config.keep_best and run.early_stop.patience is None:
        return {}
    content = json.dumps([config.eval_every, asdict(run.evaluation)], sort_keys=True)
    return {"selection": hashlib.sha256(content.encode()).hexdigest()[:16]}
