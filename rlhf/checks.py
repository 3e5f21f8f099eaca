"""Faults across fields: what a type cannot say. Torch-free, so that every job of a study is checked before the first starts."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from rlhf.config import (
    STAGES,
    ArchConfig,
    ChatConfig,
    CriticInit,
    Device,
    Family,
    Offload,
    PPOConfig,
    Precision,
    RewardFunction,
    RewardKind,
    RewardModelInit,
    RewardNormalization,
    RMConfig,
    Run,
    TrackerKind,
    TrainConfig,
    Zero,
)
from rlhf.fault import Fault
from rlhf.lineage import chain, parents
from rlhf.models import packaged
from rlhf.rewards.own import split
from rlhf.rewards.server import is_loopback


def faults(run: Run) -> list[str]:
    """Everything wrong with ``run``, one line each: key, value, rule, fix. Empty if it may start."""
    found = [
        *_engine(run),
        *_model(run),
        *_data(run),
        *_lengths(run),
        *_parents(run),
        *_tracker(run),
        *(f"chat.{fault}" for fault in chat(run.chat)),
    ]
    if run.stage == "ppo":
        found += [*_reward(run), *_ppo_extras(run)]
    for name in chain(run, run.stage):
        config = getattr(run, name)
        found += _ppo(run, config) if isinstance(config, PPOConfig) else _train(run, name, config)
    return found


def _engine(run: Run) -> Iterator[str]:
    one_device = run.zero is Zero["none"]
    if run.offload is Offload.optimizer and (one_device or run.zero.value < 1):
        yield f"offload=optimizer: needs zero=1, 2 or 3, and zero is {run.zero.name}"
    if run.offload is Offload.all and (one_device or run.zero.value < 3):
        yield f"offload=all: needs zero=3, and zero is {run.zero.name}; offload=optimizer goes with zero=1 and 2"
    if run.offload is Offload.nvme:
        yield "offload=nvme: is not wired in yet; use offload=all"
    if run.ranks < 1:
        yield f"ranks={run.ranks}: must be at least 1"
    elif run.ranks > 1 and one_device:
        yield f"ranks={run.ranks}: zero=none is one device; use zero=0 (or 1, 2, 3) for several"
    for key, lora in (("lora", run.lora), ("reward_lora", run.reward_lora)):
        if lora.dim < 0:
            yield f"{key}.dim={lora.dim}: must be at least 0; 0 trains all weights"
        if not lora.alpha > 0:
            yield f"{key}.alpha={lora.alpha}: must be above 0"
        if lora.targets is not None and not lora.targets:
            yield f"{key}.targets=[]: names no layer; use null for all, or {key}=none"
    if run.precision is Precision.bf16 and run.device is Device.cpu:
        yield "precision=bf16: slower and coarser than fp32 on a CPU; use precision=fp32"


def _model(run: Run) -> Iterator[str]:
    for key in ("model", "reward_model"):
        model = getattr(run, key)
        if model.path is None and model.arch is None:
            yield f"{key}.path=null: a model without a path needs {key}.arch; set one of them"
        if (wrong := packaged.fault(key, model.path, model.revision)) is not None:
            yield wrong
        if model.arch is not None:
            yield from _arch(f"{key}.arch", model.arch)
        if not 0 <= model.dropout < 1:
            yield f"{key}.dropout={model.dropout}: must be at least 0 and below 1"
    if (
        "rm" in chain(run, run.stage)
        and run.rm.init is RewardModelInit.sft
        and (run.model.arch, run.model.path) != (run.reward_model.arch, run.reward_model.path)
    ):
        yield (
            f"rm.init=sft: reward_model={run.reward_model.name} must be the same network as model={run.model.name}; "
            "use rm.init=base or the same reward_model"
        )


def _arch(key: str, arch: ArchConfig) -> Iterator[str]:
    if arch.hidden_size % arch.heads:
        yield f"{key}.heads={arch.heads} does not divide {key}.hidden_size={arch.hidden_size}; choose sizes that divide"
    if arch.kv_heads is not None and (arch.kv_heads < 1 or arch.heads % arch.kv_heads):
        yield f"{key}.kv_heads={arch.kv_heads} does not divide {key}.heads={arch.heads}; choose sizes that divide, or null"
    if arch.family is Family.bloom and arch.ffn_size != 4 * arch.hidden_size:
        yield f"{key}.ffn_size={arch.ffn_size}: bloom has no other than 4 * hidden_size; use {4 * arch.hidden_size}"
    if arch.family in (Family.llama, Family.qwen3, Family.gpt_neox) and not (arch.rope_theta or 0) > 0:
        yield f"{key}.rope_theta={arch.rope_theta}: {arch.family.name} turns by position and needs one above 0; 10000 is usual"


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
        if not source.path.startswith("hub:"):
            for field in ("subset", "files", "streaming"):
                if getattr(source, field):
                    yield f"{key}.{field}={getattr(source, field)}: goes with path=hub:<id> only; leave it out"
        elif source.streaming and source.cap is None:
            yield f"{key}.streaming=true: needs {key}.cap, or the whole data set is read"


def _lengths(run: Run) -> Iterator[str]:
    rollout = run.rollout
    if rollout.temperature < 0:
        yield f"rollout.temperature={rollout.temperature}: must be 0 (greedy) or above"
    if not 0 < rollout.top_p <= 1:
        yield f"rollout.top_p={rollout.top_p}: must be above 0 and at most 1"
    for key in ("max_prompt_tokens", "max_new_tokens", "micro_batch_size"):
        if getattr(rollout, key) < 1:
            yield f"rollout.{key}={getattr(rollout, key)}: must be at least 1"
    for key in ("prompts", "examples", "micro_batch_size", "samples", "max_new_tokens"):
        if getattr(run.evaluation, key) < 1:
            yield f"evaluation.{key}={getattr(run.evaluation, key)}: must be at least 1"
    if run.model.arch is not None:
        limit = run.model.arch.max_positions
        longest = {f"{name}.max_length": getattr(run, name).max_length for name in ("pretrain", "sft", "rm")}
        longest = {key: length for key, length in longest.items() if key.split(".")[0] in chain(run, run.stage)}
        longest["rollout.max_prompt_tokens + rollout.max_new_tokens"] = rollout.max_prompt_tokens + rollout.max_new_tokens
        for key, length in longest.items():
            if length > limit:
                yield f"{key}={length}: longer than the {limit} positions of model={run.model.name}; shorten it"


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


def _parents(run: Run) -> Iterator[str]:
    """Before hours are spent on the other parent: is what the user points at there, and of use?"""
    read = {parent for stage in chain(run, run.stage) for parent in parents(run, stage)}
    for name in ("pretrain", "sft", "rm"):
        given = getattr(run.parents, name)
        if given is None:
            continue
        key = f"parents.{name}={given}"
        if name not in read:
            why = {"rm": " with rm.init=base", "ppo": f" with reward={run.reward.kind.name}"}.get(run.stage, "")
            yield f"{key}: stage={run.stage}{why} does not start from one; leave it out"
        elif (Path(given) / "artifact").is_dir():
            yield f"{key}: is the folder of a run; name the model in it: parents.{name}={given.rstrip('/')}/artifact"
        elif (given[:1] in "/~." or given.count("/") > 1) and not Path(given).is_dir():
            yield f"{key}: there is no such folder; write an artifact's folder in full, or a hub id"


def chat(config: ChatConfig) -> Iterator[str]:
    """Faults of the settings of a conversation."""
    if config.max_new_tokens < 1:
        yield f"max_new_tokens={config.max_new_tokens}: must be at least 1"
    if not 0 <= config.temperature < float("inf"):
        yield f"temperature={config.temperature}: must be 0 (greedy) or above"
    if not 0 < config.top_p <= 1:
        yield f"top_p={config.top_p}: must be above 0 and at most 1"
    if config.no_repeat_ngram_size < 0:
        yield f"no_repeat_ngram_size={config.no_repeat_ngram_size}: must be at least 1, or 0 to allow repetition"


def _tracker(run: Run) -> Iterator[str]:
    if run.tracker.kind is TrackerKind.tensorboard and importlib.util.find_spec("tensorboard") is None:
        yield "tracker=tensorboard: is not installed; pip install 'rlhf[tensorboard]', or tracker=none"
    if not 0 <= run.tracker.finish_seconds < float("inf"):
        yield f"tracker.finish_seconds={run.tracker.finish_seconds}: must be a number of seconds, 0 or above"


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
