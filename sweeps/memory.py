"""Which cell needs more memory than which other, as far as that is certain: the order of a characterisation, and dominance.

A cell that needs at least as much of everything as one that ran out of memory will run out of it, too. That is only said
where every setting that differs is known to move memory one way, or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_OFFLOAD = {"none": 3, "optimizer": 2, "all": 1, "nvme": 0}
_ZERO = {"none": 4, "0": 3, "1": 2, "2": 1, "3": 0}
_PRECISION = {"fp32": 1, "bf16": 0, "fp16": 0}


def _adapters(dim: Any) -> float:
    """No adapters means gradients and optimizer states for all weights."""
    return float(dim) if dim else float("inf")


GROWS: Mapping[str, Callable[[Any], float]] = {
    "offload": lambda value: _OFFLOAD[str(value)],
    "precision": lambda value: _PRECISION[str(value)],
    "lora.dim": _adapters,
    "reward_lora.dim": _adapters,
    "micro_batch_size": float,
    "gradient_checkpointing": lambda value: float(not value),
    "max_length": float,
    "rollout.micro_batch_size": float,
    "rollout.max_prompt_tokens": float,
    "rollout.max_new_tokens": float,
    "evaluation.micro_batch_size": float,
}
"""Settings with which memory grows, and how their values are ordered; one without a group is the stage's own."""

SHARDED: Mapping[str, Callable[[Any], float]] = {"zero": lambda value: _ZERO[str(value)], "ranks": lambda value: -float(value)}
"""The same, where there are several ranks to shard over in both cells."""

NEUTRAL = {
    *("learning_rate", "critic_learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_eps", "max_grad_norm"),
    *("schedule", "schedule_power", "schedule_cycles", "warmup_steps", "final_lr_fraction", "critic_warmup"),
    *("epochs", "max_steps", "updates", "inner_epochs", "log_every", "eval_every", "eval_every_epoch", "save_every"),
    *("kl_coef", "kl_target", "kl_horizon", "clip_range", "value_clip_range", "gamma", "gae_lambda", "temperature", "top_p"),
    *("weight", "examples", "samples", "prompts", "seed", "alpha", "rslora"),
}
"""Settings that memory does not depend on, by the last part of their key."""


@dataclass(frozen=True)
class Demand:
    """What a cell asks of memory."""

    grows: Mapping[str, float]
    """By setting: a larger number needs more."""
    other: Mapping[str, str]
    """Settings whose effect on memory is not known."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Demand":
        """The demand of a cell with these ``settings``, by their full keys; `stage` and `ranks` must be among them."""
        stage = settings["stage"]
        known = {**GROWS, **(SHARDED if settings["ranks"] > 1 else {})}
        if settings.get(f"{stage}.packing"):
            del known["max_length"]  # longer rows may leave less padding
        grows, other = {}, {}
        for key, value in settings.items():
            name = key.removeprefix(f"{stage}.")
            if name in known:
                grows[name] = known[name](value)
            elif name.rpartition(".")[2] not in NEUTRAL:
                other[name] = str(value)
        return cls(grows, other)

    def covers(self, less: "Demand") -> bool:
        """Whether this needs at least as much of everything as ``less``, for certain."""
        if self.other != less.other or self.grows.keys() != less.grows.keys():
            return False
        return all(self.grows[name] >= value for name, value in less.grows.items())


def from_least(demands: Sequence[Demand]) -> list[int]:
    """Indices in the order of growing memory: each cell's places on all settings are added up, ties as they stand."""
    places: dict[str, dict[float, int]] = {}
    for name in dict.fromkeys(name for demand in demands for name in demand.grows):
        values = sorted({demand.grows[name] for demand in demands if name in demand.grows})
        places[name] = {value: place for place, value in enumerate(values)}
    return sorted(
        range(len(demands)), key=lambda index: sum(places[name][value] for name, value in demands[index].grows.items())
    )
