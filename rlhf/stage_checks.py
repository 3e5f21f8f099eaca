"""Faults of the stages' own numbers: batches, optimizers, rewards, selection. Torch-free, as ``checks``."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from rlhf.config import CriticInit, PPOConfig, RewardFunction, RewardKind, RewardNormalization, RMConfig, Run, TrainConfig
from rlhf.fault import Fault
from rlhf.lineage import chain
from rlhf.rewards.own import split
from rlhf.rewards.server import is_loopback


def faults(run: Run) -> Iterator[str]:
    """What is wrong with the stages that ``run`` may train, one line each."""
    yield from _early_stop(run)
    if run.stage == "ppo":
        yield from _reward(run)
        yield from _ppo_extras(run)
    for name in chain(run, run.stage):
        config = getattr(run, name)
        yield from _selection(run, name, config)
        yield from _ppo(run, config) if isinstance(config, PPOConfig) else _train(run, name, config)


def _selection(run: Run, name: str, config: TrainConfig | PPOConfig) -> Iterator[str]:
    wants = [f"{name}.keep_best=true"] * config.keep_best
    if name == run.stage and run.early_stop.patience is not None:
        wants.append(f"early_stop.patience={run.early_stop.patience}")
    if wants and config.eval_every == 0:
        yield f"{name}.eval_every=0: {' and '.join(wants)} needs evaluations on the way; set {name}.eval_every"


def _early_stop(run: Run) -> Iterator[str]:
    config = run.early_stop
    if config.patience is not None and config.patience < 1:
        yield f"early_stop.patience={config.patience}: must be at least 1, or null for never"
    if not 0 <= config.min_delta < float("inf"):
        yield f"early_stop.min_delta={config.min_delta}: must be 0 or above"
    if config.max_kl is not None and not config.max_kl > 0:
        yield f"early_stop.max_kl={config.max_kl}: must be above 0, or null for never"
    if config.max_kl is not None and run.stage != "ppo":
        yield f"early_stop.max_kl={config.max_kl}: stage={run.stage} has no such KL; it is for stage=ppo"


def _reward(run: Run) -> Iterator[str]:
    reward = run.reward
    match reward.kind:
        case RewardKind.function:
            if reward.function is None:
                yield "reward.function=null: reward=function needs a rule; choose length, regex, answer or sentiment"
            if reward.function is RewardFunction.length and (reward.target_words is None or reward.target_words < 1):
                words = reward.target_words or "null"
                yield f"reward.target_words={words}: reward.function=length needs a number of words, at least 1"
            if reward.function is RewardFunction.regex and reward.pattern is None:
                yield "reward.pattern=null: reward.function=regex needs what to look for"
            if reward.pattern is not None:
                yield from _pattern(reward.pattern, group=reward.function is RewardFunction.answer)
        case RewardKind.file:
            try:
                split(reward.path or "null")
            except Fault as fault:
                yield str(fault)
        case RewardKind.http:
            url = urlsplit(reward.url or "")
            if url.scheme not in ("http", "https") or not url.hostname:
                yield f"reward.url={reward.url or 'null'}: is no address; write http://127.0.0.1:<port>/<path>"
            elif not reward.allow_remote and not is_loopback(reward.url or ""):
                yield (
                    f"reward.url={reward.url}: would send prompts and responses to another machine; "
                    "add reward.allow_remote=true if that is meant"
                )
            if not reward.timeout > 0:
                yield f"reward.timeout={reward.timeout}: must be above 0"
        case RewardKind.model:
            pass
    if run.ppo.critic_init is CriticInit.reward_model and reward.kind is not RewardKind.model:
        yield f"ppo.critic_init=reward_model: there is none with reward={reward.kind.name}; use ppo.critic_init=sft or auto"


def _pattern(pattern: str, group: bool) -> Iterator[str]:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        yield f"reward.pattern={pattern}: is no regular expression ({error}); see docs.python.org/3/library/re"
        return
    if group and not groups:
        yield f"reward.pattern={pattern}: reward.function=answer takes the answer from the first group; put it in brackets"


def _ppo_extras(run: Run) -> Iterator[str]:
    config = run.ppo
    if config.kl_target is not None and not config.kl_target > 0:
        yield f"ppo.kl_target={config.kl_target}: must be above 0, or null for a fixed ppo.kl_coef"
    if config.kl_target is not None and config.kl_coef == 0:
        yield "ppo.kl_coef=0: an adaptive coefficient changes in proportion to itself, so it needs a first value above 0"
    if config.kl_target is not None and config.kl_horizon < config.batch_size:
        yield f"ppo.kl_horizon={config.kl_horizon}: must be at least ppo.batch_size={config.batch_size}"
    if config.value_lambda is not None and not 0 <= config.value_lambda <= 1:
        yield f"ppo.value_lambda={config.value_lambda}: must be between 0 and 1, or null for ppo.gae_lambda"
    if config.max_update_kl is not None and not config.max_update_kl > 0:
        yield f"ppo.max_update_kl={config.max_update_kl}: must be above 0, or null for never"
    if config.ptx_coef < 0:
        yield f"ppo.ptx_coef={config.ptx_coef}: must not be negative; 0 leaves the loss out"
    if config.ema_decay is not None and not 0 <= config.ema_decay < 1:
        yield f"ppo.ema_decay={config.ema_decay}: must be at least 0 and below 1, or null for no average"


def _train(run: Run, name: str, config: TrainConfig) -> Iterator[str]:
    yield from _batch(run, name, config.batch_size, config.micro_batch_size, "batch_size")
    yield from _positive(name, config, "learning_rate", "epochs", "max_grad_norm", "max_length", "log_every", "adam_eps")
    yield from _optimizer(name, config)
    if isinstance(config, RMConfig) and config.score_l2 < 0:
        yield f"rm.score_l2={config.score_l2}: must not be negative; 0 leaves the scores alone"
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
        yield from _batch(
            run, "ppo", config.batch_size // config.minibatches, config.micro_batch_size, "batch_size / minibatches"
        )
    if config.normalization_prompts < 2 and config.reward_normalization is RewardNormalization.reference:
        yield f"ppo.normalization_prompts={config.normalization_prompts}: must be at least 2, or there is no deviation"
    if config.kl_coef < 0:
        yield f"ppo.kl_coef={config.kl_coef}: must not be negative, or PPO is paid for leaving the SFT policy"
    yield from _optimizer("ppo", config)
    if not 0 <= config.critic_warmup < config.updates:
        yield f"ppo.critic_warmup={config.critic_warmup}: must be below ppo.updates={config.updates}, or nothing learns"
    if config.entropy_coef < 0:
        yield f"ppo.entropy_coef={config.entropy_coef}: must not be negative; 0 leaves the entropy alone"
    for key in ("gamma", "gae_lambda"):
        if not 0 <= getattr(config, key) <= 1:
            yield f"ppo.{key}={getattr(config, key)}: must be between 0 and 1"
    for key in ("model", "reward_model"):
        dropout = getattr(run, key).dropout
        if dropout and config.gradient_checkpointing:
            yield f"{key}.dropout={dropout}: must be 0 with ppo.gradient_checkpointing=true, or old and new ratios differ"


def _optimizer(name: str, config: TrainConfig | PPOConfig) -> Iterator[str]:
    for key in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(config, key) < 1:
            yield f"{name}.{key}={getattr(config, key)}: must be at least 0 and below 1"
    for key in ("weight_decay", "warmup_steps", "final_lr_fraction", "eval_every", "save_every"):
        if not 0 <= getattr(config, key) < float("inf"):
            yield f"{name}.{key}={getattr(config, key)}: must be 0 or above"
    if not 0 < config.schedule_power < float("inf"):
        yield f"{name}.schedule_power={config.schedule_power}: must be above 0; 1 is linear"
    if config.schedule_cycles < 1:
        yield f"{name}.schedule_cycles={config.schedule_cycles}: must be at least 1"
    rates = ("learning_rate", "critic_learning_rate") if isinstance(config, PPOConfig) else ("learning_rate",)
    for key in rates:
        if getattr(config, key) == float("inf"):
            yield f"{name}.{key}=inf: must be a finite number"


def _batch(run: Run, name: str, whole: int, micro: int, what: str) -> Iterator[str]:
    if whole < 1 or micro < 1:
        yield f"{name}.{what}={whole}, {name}.micro_batch_size={micro}: both must be at least 1"
    elif whole % max(run.ranks, 1):
        yield f"ranks={run.ranks} does not divide {name}.{what}={whole}; use a multiple of ranks"
    elif whole % (micro * max(run.ranks, 1)):
        part = whole // max(run.ranks, 1)
        several = f" ({part} for each of ranks={run.ranks})" if run.ranks > 1 else ""
        yield f"{name}.micro_batch_size={micro} does not divide {name}.{what}={whole}{several}; use a divisor of {part}"


def _positive(name: str, config: TrainConfig | PPOConfig, *keys: str) -> Iterator[str]:
    for key in keys:
        value = getattr(config, key)
        if not value > 0:
            yield f"{name}.{key}={value}: must be above 0"
