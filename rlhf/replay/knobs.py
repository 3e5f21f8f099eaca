"""Which settings an update can be computed again under, and why not under the others. Torch-free."""

from collections.abc import Sequence

SHARED = (
    *("inner_epochs", "minibatches", "micro_batch_size", "gradient_checkpointing", "updates"),
    *("learning_rate", "schedule", "schedule_power", "schedule_cycles", "warmup_steps", "final_lr_fraction"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_eps", "max_grad_norm"),
    *("kl_coef", "entropy_coef", "clip_range", "reward_clip", "missing_eos_penalty"),
)
"""Keys of `PolicyGradientConfig`."""
KEYS = {
    "ppo": (
        *SHARED,
        *("critic_learning_rate", "critic_warmup", "kl_estimator", "gamma", "gae_lambda", "value_lambda", "max_update_kl"),
        *("value_clip_range", "whiten_rewards", "whiten_advantages", "whiten_unbiased", "score_after_end", "ptx_coef"),
    ),
    "rloo": SHARED,
    "grpo": (
        *SHARED,
        *("scale_by", "weighting", "ratio", "clip_range_high", "kl_in_reward", "mask_truncated", "overlong_tokens"),
    ),
}
"""What an update reads beside what its capsule holds, by stage."""
FORMATS = ("precision", "fp32_loss")
"""Number formats, of the whole run."""
ENSEMBLE = ("reward.pessimism", "reward.disagreement_coef")
"""How scores of several reward models become one."""

SAMPLED = "its prompts and responses are in the capsule, sampled already"
SCORED = "its raw scores are in the capsule, with the scale on which all learning until then was"
ALONE = "it holds the scores of one reward alone, and this makes one score of several (`reward.members`)"
LATER = "it changes later updates only"
OURS = "replay computes with plain torch on the CPU"
WEIGHTS = "its networks and the moments of their optimizers are in the capsule"
OUTSIDE = "no update reads it"
WHY = {
    SAMPLED: ("rollout", "data", "seed", "{}.batch_size", "{}.group_size", "{}.max_resamples", "{}.ptx_data"),
    SCORED: ("reward", "{}.reward_normalization", "{}.normalization_prompts"),
    WEIGHTS: ("model", "reward_model", "lora", "reward_lora", "parents", "{}.init", "{}.critic_init", "{}.optimizer"),
    LATER: ("{}.kl_target", "{}.kl_horizon", "{}.ema_decay"),
    ALONE: ENSEMBLE,
    OUTSIDE: ("{}.log_every", "{}.eval_every", "{}.save_every", "{}.keep_best", "{}.capture_step"),
    OURS: ("device", "zero", "ranks", "offload", "deepspeed", "hardware", "{}.reference_device", "{}.reward_device"),
}
"""Keys and groups under which it cannot, by the reason; ``{}`` is the stage. No update reads any other group."""


def refuse(overrides: Sequence[str], stage: str, update: int, scorers: int) -> list[str]:
    """A fault for each of ``overrides`` of known keys under which update ``update`` of ``stage`` cannot be computed again.

    Args:
        scorers: reward models whose scores the capsule holds.
    """
    several = ENSEMBLE if scorers > 1 else ()
    return [fault for text in overrides if (fault := _fault(text, stage, update, (*FORMATS, *several)))]


def _fault(text: str, stage: str, update: int, around: Sequence[str]) -> str:
    """Empty for a key of ``stage`` that can be tried, and for those ``around`` it."""
    key = text.partition("=")[0].strip()
    group, _, name = key.partition(".")
    if key in around or (group == stage and name in KEYS[stage]):
        return ""
    if group in KEYS and group != stage:
        return (
            f"{text}: the capsule is of stage={stage}; write {stage}.{name}=..."
            if name in KEYS[stage]
            else (f"{text}: the capsule is of stage={stage}, whose keys begin with `{stage}.`; see docs/replay.md")
        )
    named = {each.format(stage): reason for reason, names in WHY.items() for each in names}
    reason = named.get(key) or named.get(group) or OUTSIDE
    return (
        f"{text}: cannot be tried on a recorded update: {reason}; set it on a run of its own, with "
        f"{stage}.capture_step={update}, and replay that"
    )
