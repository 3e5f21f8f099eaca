"""Faults across fields: what a type cannot say. Torch-free, so that every job of a study is checked before the first starts."""

from collections.abc import Iterator
from pathlib import Path

from rlhf.config import (
    STAGES,
    Device,
    Offload,
    PPOConfig,
    Precision,
    RewardModelInit,
    RewardNormalization,
    Run,
    TrainConfig,
    Zero,
)


def faults(run: Run) -> list[str]:
    """Everything wrong with ``run``, one line each: key, value, rule, fix. Empty if it may start."""
    found = [*_engine(run), *_model(run), *_data(run), *_lengths(run), *_parents(run)]
    for name in _stages_needed(run):
        config = getattr(run, name)
        found += _ppo(run, config) if isinstance(config, PPOConfig) else _train(name, config)
    return found


def _stages_needed(run: Run) -> list[str]:
    return list(STAGES[: STAGES.index(run.stage) + 1])


def _engine(run: Run) -> Iterator[str]:
    if run.zero is not Zero["none"]:
        yield f"zero={run.zero.name}: DeepSpeed is not wired in yet; use zero=none"
    if run.offload is not Offload.none:
        need = "ZeRO 1 or higher" if run.offload is Offload.optimizer else "ZeRO 3"
        yield f"offload={run.offload.name}: needs {need}, which is not wired in yet; use offload=none"
    if run.ranks != 1:
        yield f"ranks={run.ranks}: several ranks are not wired in yet; use ranks=1"
    if run.lora.dim != 0:
        yield f"lora.dim={run.lora.dim}: adapters are not wired in yet; use lora=none"
    if run.precision is Precision.bf16 and run.device is Device.cpu:
        yield "precision=bf16: slower and coarser than fp32 on a CPU; use precision=fp32"


def _model(run: Run) -> Iterator[str]:
    for key in ("model", "reward_model"):
        model = getattr(run, key)
        if model.path is None and model.arch is None:
            yield f"{key}.path=null: a model without a path needs {key}.arch; set one of them"
        if model.arch is not None and model.arch.hidden_size % model.arch.heads:
            sizes = f"{key}.arch.heads={model.arch.heads} does not divide {key}.arch.hidden_size={model.arch.hidden_size}"
            yield f"{sizes}; choose sizes that divide"
        if not 0 <= model.dropout < 1:
            yield f"{key}.dropout={model.dropout}: must be at least 0 and below 1"
    if (
        run.stage != "sft"
        and run.rm.init.name == "sft"
        and (run.model.arch, run.model.path) != (run.reward_model.arch, run.reward_model.path)
    ):
        yield (
            f"rm.init=sft: reward_model={run.reward_model.name} must be the same network as model={run.model.name}; "
            "use rm.init=base or the same reward_model"
        )


def _data(run: Run) -> Iterator[str]:
    if not run.data.sources:
        yield "data.sources: is empty; choose a data option or name a source"
    if not 0 < run.data.eval_fraction < 1:
        yield f"data.eval_fraction={run.data.eval_fraction}: must be between 0 and 1, or nothing is held out"
    if run.data.max_train_examples is not None and run.data.max_train_examples < 1:
        yield f"data.max_train_examples={run.data.max_train_examples}: must be at least 1, or null for all"
    for name, source in run.data.sources.items():
        key = f"data.sources.{name}"
        if source.weight <= 0:
            yield f"{key}.weight={source.weight}: must be above 0; leave the source out instead"
        for stage in source.stages:
            if stage not in STAGES:
                yield f"{key}.stages: there is no stage `{stage}`; choose from {', '.join(STAGES)}"
        if source.cap is not None and source.cap < 1:
            yield f"{key}.cap={source.cap}: must be at least 1, or null for all rows"


def _lengths(run: Run) -> Iterator[str]:
    rollout = run.rollout
    if rollout.temperature < 0:
        yield f"rollout.temperature={rollout.temperature}: must be 0 (greedy) or above"
    if not 0 < rollout.top_p <= 1:
        yield f"rollout.top_p={rollout.top_p}: must be above 0 and at most 1"
    for key in ("max_prompt_tokens", "max_new_tokens", "micro_batch_size"):
        if getattr(rollout, key) < 1:
            yield f"rollout.{key}={getattr(rollout, key)}: must be at least 1"
    if run.model.arch is not None:
        limit = run.model.arch.max_positions
        longest = {"sft.max_length": run.sft.max_length, "rm.max_length": run.rm.max_length}
        longest["rollout.max_prompt_tokens + rollout.max_new_tokens"] = rollout.max_prompt_tokens + rollout.max_new_tokens
        for key, length in longest.items():
            if length > limit:
                yield f"{key}={length}: longer than the {limit} positions of model={run.model.name}; shorten it"


def _parents(run: Run) -> Iterator[str]:
    """Before hours are spent on the other parent: is what the user points at there, and of use?"""
    for name in ("sft", "rm"):
        given = getattr(run.parents, name)
        if given is None:
            continue
        key = f"parents.{name}={given}"
        unread = run.stage == "rm" and run.rm.init is RewardModelInit.base
        if unread or STAGES.index(name) >= STAGES.index(run.stage):
            base = " with rm.init=base" if run.stage == "rm" else ""
            yield f"{key}: stage={run.stage}{base} does not start from one; leave it out"
        elif (given[:1] in "/~." or given.count("/") > 1) and not Path(given).is_dir():
            yield f"{key}: there is no such folder; write an artifact's folder in full, or a hub id"


def _train(name: str, config: TrainConfig) -> Iterator[str]:
    yield from _batch(name, config.batch_size, config.micro_batch_size, "batch_size")
    yield from _positive(name, config, "learning_rate", "epochs", "max_grad_norm", "max_length", "log_every", "adam_eps")
    if config.max_steps is not None and config.max_steps < 1:
        yield f"{name}.max_steps={config.max_steps}: must be at least 1, or null for no limit"


def _ppo(run: Run, config: PPOConfig) -> Iterator[str]:
    yield from _positive(
        "ppo",
        config,
        "learning_rate",
        "critic_learning_rate",
        "updates",
        "inner_epochs",
        "minibatches",
        "max_grad_norm",
        "clip_range",
        "log_every",
    )
    if config.minibatches > 0 and config.batch_size % config.minibatches:
        yield (
            f"ppo.minibatches={config.minibatches} does not divide ppo.batch_size={config.batch_size}; "
            "choose a batch that is a multiple"
        )
    elif config.minibatches > 0:
        yield from _batch("ppo", config.batch_size // config.minibatches, config.micro_batch_size, "batch_size / minibatches")
    if config.normalization_prompts < 2 and config.reward_normalization is RewardNormalization.reference:
        yield f"ppo.normalization_prompts={config.normalization_prompts}: must be at least 2, or there is no deviation"
    if config.kl_coef < 0:
        yield f"ppo.kl_coef={config.kl_coef}: must not be negative, or PPO is paid for leaving the SFT policy"
    for key in ("gamma", "gae_lambda"):
        if not 0 <= getattr(config, key) <= 1:
            yield f"ppo.{key}={getattr(config, key)}: must be between 0 and 1"
    for key in ("model", "reward_model"):
        dropout = getattr(run, key).dropout
        if dropout and config.gradient_checkpointing:
            yield f"{key}.dropout={dropout}: must be 0 with ppo.gradient_checkpointing=true, or old and new ratios differ"


def _batch(name: str, whole: int, micro: int, what: str) -> Iterator[str]:
    if whole < 1 or micro < 1:
        yield f"{name}.{what}={whole}, {name}.micro_batch_size={micro}: both must be at least 1"
    elif whole % micro:
        yield f"{name}.micro_batch_size={micro} does not divide {name}.{what}={whole}; use a divisor of {whole}"


def _positive(name: str, config: TrainConfig | PPOConfig, *keys: str) -> Iterator[str]:
    for key in keys:
        value = getattr(config, key)
        if not value > 0:
            yield f"{name}.{key}={value}: must be above 0"
