"""What `keep_best` and `early_stop` follow in each stage, and which way it is better. Torch-free: checked before the start."""

import re

from rlhf.config import EarlyStopConfig, Goal, OnlineConfig, RewardModelLoss, Run, TrainConfig
from rlhf.lineage import JUDGED, ONLINE
from rlhf.result import OBJECTIVES, Objective

_UP, _DOWN = Goal.maximize, Goal.minimize
_ANSWERS = {
    "response/length_mean": None,
    "response/eos_rate": _UP,
    "response/repetition": _DOWN,
    "response/distinct_2": None,
    "reward/gold_mean": _UP,
}
_AGAINST_THE_START = {
    **{f"reward/{reward}gain{bound}": _UP for reward in ("", "gold_") for bound in ("", "_low", "_high")},
    "reward/gold_correlation": _UP,
    "eval/score_mean": _UP,
    "eval/score_raw": _UP,
    "eval/kl": None,
    "eval/reference_perplexity": _DOWN,
    **_ANSWERS,
}
_EACH = "<source>"
_SCORES = {
    "rewards/margins": None,
    "eval/kendall_tau": _UP,
    "eval/spearman_rho": _UP,
    "eval/calibration_error": _DOWN,
    "eval/length_correlation": None,
    **{f"eval/{name}/{_EACH}": None for name in ("first_preferred", "first_preferred_low", "first_preferred_high")},
}
_LANGUAGE = {"eval/loss": _DOWN, "eval/perplexity": _DOWN}

MEASURED: dict[str, dict[str, Goal | None]] = {
    "pretrain": {**_LANGUAGE},
    "sft": {**_LANGUAGE, **_ANSWERS, "eval/score_mean": _UP, "signs/padding_error": _DOWN},
    "rm": {
        **{f"eval/accuracy{bound}/{_EACH}": _UP for bound in ("", "_low", "_high")},
        "eval/accuracy": _UP,
        "eval/loss": _DOWN,
        "eval/rating_mse": _DOWN,
        **_SCORES,
        "signs/padding_error": _DOWN,
    },
    "dpo": {
        **{f"eval/accuracy{bound}/{_EACH}": _UP for bound in ("", "_low", "_high")},
        "eval/accuracy": _UP,
        "eval/loss": _DOWN,
        **_SCORES,
        **_AGAINST_THE_START,
    },
    "kto": {
        **{f"eval/accuracy{bound}/{_EACH}": _UP for bound in ("", "_low", "_high")},
        "eval/auc": _UP,
        "eval/accuracy": _UP,
        "eval/loss": _DOWN,
        **_SCORES,
        **_AGAINST_THE_START,
    },
    **{stage: {**_AGAINST_THE_START, "eval/disagreement": _DOWN} for stage in ONLINE},
}
"""The metrics of each stage's evaluations that change as it learns, and which way is better; None: it depends.

Some need data of a kind (pairs, ratings, a known reward); whether it is there shows in the evaluation before the first round.
"""

_COMPARISONS = (
    "baseline/bayes",
    "baseline/bag_of_words",
    "baseline/length_correlation",
    "baseline/longer_wins",
    f"baseline/longer_wins/{_EACH}",
    *(f"baseline/{name}/{_EACH}" for name in ("first_wins", "first_wins_low", "first_wins_high")),
    f"eval/pairs/{_EACH}",
)
_THE_START = (
    "response/repetition_sft",
    "response/distinct_2_sft",
    "eval/reference_perplexity_sft",
    "reward/gold_sd_sft",
)
_OF_A_REWARD = (*_THE_START, "eval/disagreement_sft")
_UNTRAINED = (
    "best_of/kl_bound",
    f"best_of/kl_bound/{_EACH}",
    *(f"best_of/{reward}gain{bound}" for reward in ("", "gold_") for bound in ("", "_low", "_high")),
    *(f"best_of/{reward}gain{bound}/{_EACH}" for reward in ("", "gold_") for bound in ("", "_low", "_high")),
)
BESIDE: dict[str, tuple[str, ...]] = {
    "pretrain": (),
    "sft": (),
    "rm": _COMPARISONS,
    **dict.fromkeys(JUDGED, (*_COMPARISONS, *_THE_START)),
    **dict.fromkeys(ONLINE, _OF_A_REWARD),
    "best_of_n": (*_OF_A_REWARD, *_UNTRAINED),
}
"""What the evaluations of each stage measure besides, which does not change as it learns."""
OF_TRAINING = ("loss", "perf/tokens_per_second")
"""Metrics of a result that come from its training."""

NEVER = EarlyStopConfig(metric=None, goal=None, patience=None, min_delta=0.0, max_kl=None)
"""What holds for the parents of a chain."""


def early_stop(run: Run, stage: str) -> EarlyStopConfig:
    """`early_stop` as it holds for ``stage``: it is meant for the stage that was asked for, and never ends a parent."""
    return run.early_stop if stage == run.stage else NEVER


def on_the_way(config: TrainConfig | OnlineConfig) -> bool:
    """Whether a stage is evaluated between its first round and its last."""
    return config.eval_every > 0 or (isinstance(config, TrainConfig) and config.eval_every_epoch)


def measured(run: Run, stage: str) -> dict[str, Goal | None]:
    """The metrics that ``stage`` of this run can be followed by, those of each source under its name."""
    return {
        name.replace(_EACH, source): goal
        for name, goal in MEASURED[stage].items()
        for source in (run.data.sources if _EACH in name else [""])
    }


def can_measure(stage: str, metric: str) -> bool:
    """Whether a result of ``stage`` can hold ``metric``, whatever its data, its sources, and whether it keeps an average."""
    known = (*MEASURED[stage], *BESIDE[stage])
    alike = metric.removeprefix("ema/") if stage in ONLINE else metric
    return metric in OF_TRAINING or any(re.fullmatch(re.escape(name).replace(_EACH, ".+"), alike) for name in known)


def objective(run: Run, stage: str) -> Objective:
    """What the evaluations of ``stage`` are judged by: `early_stop.metric`, or the stage's own."""
    config = early_stop(run, stage)
    if config.metric is None:
        if stage == "rm" and run.rm.loss is RewardModelLoss.mse:  # it learns from answers that need not come in pairs
            return Objective("eval/rating_mse", "minimize")
        return OBJECTIVES[stage]
    goal = measured(run, stage).get(config.metric) or config.goal
    assert goal is not None, "`checks` lets no metric pass whose goal nobody knows"
    return Objective(config.metric, "maximize" if goal is Goal.maximize else "minimize")
