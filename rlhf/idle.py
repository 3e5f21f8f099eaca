"""Settings that a person typed and that change nothing in their run. Torch-free; said once, before anything starts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from rlhf.config import (
    STAGES,
    DPOLoss,
    Pessimism,
    RewardFunction,
    RewardKind,
    RewardNormalization,
    Run,
    Schedule,
    TrackerKind,
    Zero,
)
from rlhf.lineage import JUDGED, ONLINE, READS, chain

RECIPES = ("experiment", "debug", "model")
"""Groups that set keys of other groups."""
PARENTS = (
    *("reward", "reward.kind", "sft.init", "rm.init"),
    *(f"{stage}.init" for stage in (*JUDGED, *ONLINE)),
    *("parents.pretrain", "parents.sft", "parents.rm", "parents.rm_members"),
)
"""What decides which stages are trained."""


@dataclass(frozen=True)
class Rule:
    """``keys`` have no effect where ``by``, another key, has a value for which ``idle`` holds."""

    keys: tuple[str, ...]
    by: str
    idle: Callable[[Any], bool]


def _other(*choices: Enum) -> Callable[[Any], bool]:
    return lambda value: value not in choices


RULES = (
    Rule(("ppo.ptx_data",), "ppo.ptx_coef", lambda coefficient: coefficient == 0),
    Rule(("ppo.kl_horizon",), "ppo.kl_target", lambda target: target is None),
    *(
        Rule((f"{stage}.normalization_prompts",), f"{stage}.reward_normalization", _other(RewardNormalization.reference))
        for stage in ONLINE
    ),
    *(Rule((f"{stage}.reward_device",), "reward.kind", _other(RewardKind.model)) for stage in ONLINE),
    Rule(("dpo.label_smoothing",), "dpo.loss", _other(DPOLoss.sigmoid)),
    Rule(("dpo.margin",), "dpo.loss", _other(DPOLoss.simpo)),
    Rule(("dpo.average_logprobs",), "dpo.loss", _other(DPOLoss.sigmoid, DPOLoss.ipo)),
    Rule(("dpo.sft_coef",), "dpo.loss", _other(DPOLoss.sigmoid, DPOLoss.ipo, DPOLoss.simpo)),
    Rule(("reward.members", "reward.pessimism", "reward.disagreement_coef"), "reward.kind", _other(RewardKind.model)),
    Rule(("reward.pessimism", "reward.disagreement_coef"), "reward.members", lambda members: members == 1),
    Rule(("reward.disagreement_coef",), "reward.pessimism", lambda how: how is Pessimism.worst),
    Rule(("reward.function", "reward.target_words", "reward.pattern"), "reward.kind", _other(RewardKind.function)),
    Rule(("reward.path",), "reward.kind", _other(RewardKind.file)),
    Rule(("reward.url", "reward.timeout", "reward.allow_remote"), "reward.kind", _other(RewardKind.http)),
    Rule(("reward.target_words",), "reward.function", _other(RewardFunction.length)),
    Rule(("reward.pattern",), "reward.function", _other(RewardFunction.regex, RewardFunction.answer)),
    Rule(("early_stop.goal",), "early_stop.metric", lambda metric: metric is None),
    *(
        Rule((f"{name}.alpha", f"{name}.rslora", f"{name}.targets"), f"{name}.dim", lambda dim: dim == 0)
        for name in ("lora", "reward_lora")
    ),
    *(Rule((f"{name}.schedule_power",), f"{name}.schedule", _other(Schedule.polynomial)) for name in STAGES),
    *(Rule((f"{name}.schedule_cycles",), f"{name}.schedule", _other(Schedule.cosine_restarts)) for name in STAGES),
    *(Rule((f"{name}.final_lr_fraction",), f"{name}.schedule", lambda shape: shape is Schedule.constant) for name in STAGES),
    Rule(("deepspeed",), "zero", lambda zero: zero is Zero["none"]),
    Rule(("deepspeed.allgather_bucket_size",), "zero", _other(Zero["1"], Zero["2"])),
    *(
        Rule((f"deepspeed.{key}",), "zero", _other(Zero["3"]))
        for key in ("prefetch_bucket_size", "persistence_threshold", "max_live_parameters")
    ),
    Rule(("tracker.project", "tracker.artifacts", "tracker.finish_seconds"), "tracker.kind", _other(TrackerKind.wandb)),
)


def settings(run: Run, typed: Sequence[str], study: bool = False) -> list[str]:
    """A line for each of the overrides ``typed`` that changes nothing in ``run``.

    Of a study, ``run`` is any cell; nothing is said of what may have an effect in another one. Its space counts as typed,
    but for dimensions under a condition.
    """
    parsed = OverridesParser.create().parse_overrides(list(typed))
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()}
    if study:
        brought = [text.partition("=")[0] for texts in run.sweep.brings.values() for text in texts]
        known = {override.key_or_group for override in parsed}
        searched = {key: each for key, each in run.sweep.space.items() if key not in known}
        typed = [*typed, *(f"{key}={each}" for key, each in searched.items() if key not in run.sweep.only_if)]
        parsed = OverridesParser.create().parse_overrides(list(typed))
        swept |= {*searched, *brought}
    if swept & set(RECIPES):
        return []
    told = []
    for text, override in zip(typed, parsed, strict=True):
        key = override.key_or_group
        why = next(_reasons(run, key, swept, study), None) or _ended_before(run, key, swept)
        if why is not None and not override.is_delete():
            told.append(f"{text}: has no effect {why}")
    return told


def _ended_before(run: Run, key: str, swept: set[str]) -> str | None:
    """Why the cells of swept epochs are likely all the same."""
    stage, _, name = key.rpartition(".")
    limit = f"{stage}.max_steps"
    steps = getattr(getattr(run, stage), "max_steps", None) if key in swept and name == "epochs" and stage in STAGES else None
    if steps is None or limit in swept:
        return None
    return f"with {limit}={steps}, unless that is more steps than the epochs have; {limit}=null trains them to their end"


def _reasons(run: Run, key: str, swept: set[str], study: bool) -> Iterator[str]:
    group = key.partition(".")[0]
    if group == "chat":
        yield "on a run; it is for python -m rlhf chat"
    if group == "sweep" and not study:
        yield "on one run; it is for a study (-m)"
    stages = chain(run, run.stage)
    read_by = {stage for stage, read in READS.items() if group in read}
    if read_by and not read_by & set(stages) and not swept & set(PARENTS):
        yield f"on what is trained here: {', '.join(stages)}"
    if key == "evaluation.reward_model" and not {"sft", *JUDGED} & {*stages} and not swept & set(PARENTS):
        yield f"on what is trained here: {', '.join(stages)}; it is for policies of sft, {' and '.join(JUDGED)}"
    for rule in RULES:
        if not {key, group} & set(rule.keys) or swept & {rule.by, rule.by.partition(".")[0]}:
            continue
        value = run
        for part in rule.by.split("."):
            value = getattr(value, part)
        if rule.idle(value):
            yield f"with {rule.by}={'null' if value is None else getattr(value, 'name', value)}"
    if key in ("early_stop.metric", "early_stop.min_delta"):
        ends = {"early_stop.patience": run.early_stop.patience is not None}
        ends |= {f"{stage}.keep_best": getattr(run, stage).keep_best for stage in stages}
        if not swept & set(ends) and not any(ends.values()):
            yield f"without early_stop.patience or {run.stage}.keep_best"
