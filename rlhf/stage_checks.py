"""Faults of the stages' own numbers: batches, optimizers, rewards, selection. Torch-free, as ``checks``."""

import difflib
import importlib.util
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from rlhf import followed
from rlhf.config import (
    BestOfNConfig,
    CriticInit,
    DPOConfig,
    GroupedConfig,
    KTOConfig,
    OnlineConfig,
    PolicyGradientConfig,
    Pooling,
    PPOConfig,
    ReferencePoint,
    RewardFunction,
    RewardKind,
    RewardModelLoss,
    RewardNormalization,
    RMConfig,
    Run,
    SFTConfig,
    TrainConfig,
)
from rlhf.fault import Fault
from rlhf.lineage import JUDGED, ONLINE, PRICED, chain
from rlhf.models import packable
from rlhf.rewards.own import looked_at
from rlhf.rewards.server import is_loopback
from rlhf.runs import artifact_in
from rlhf.sealed import MANIFEST


def faults(run: Run) -> Iterator[str]:
    """What is wrong with the stages that ``run`` may train, one line each."""
    yield from _early_stop(run)
    yield from _judge(run)
    if run.stage in ONLINE:
        yield from _reward(run)
    for name in chain(run, run.stage):
        config = getattr(run, name)
        yield from _selection(run, name, config)
        yield from _online(run, name, config) if isinstance(config, OnlineConfig) else _train(run, name, config)
        if isinstance(config, PolicyGradientConfig):
            yield from _capture(name, config)
        if isinstance(config, PPOConfig):
            yield from _critic(run, config)
        if isinstance(config, GroupedConfig):
            yield from _groups(name, config)
        if isinstance(config, BestOfNConfig) and run.rollout.temperature == 0:
            yield "rollout.temperature=0: the responses to a prompt would all be the same one; sample best_of_n above 0"


def _selection(run: Run, name: str, config: TrainConfig | OnlineConfig) -> Iterator[str]:
    wants = [f"{name}.keep_best=true"] * config.keep_best
    if name == run.stage and run.early_stop.patience is not None:
        wants.append(f"early_stop.patience={run.early_stop.patience}")
    if wants and not followed.on_the_way(config):
        yield f"{name}.eval_every=0: {' and '.join(wants)} needs evaluations on the way; set {name}.eval_every"


def _judge(run: Run) -> Iterator[str]:
    folder = run.evaluation.reward_model
    if folder is not None and {"sft", *JUDGED} & {*chain(run, run.stage)}:
        try:
            kind = json.loads((artifact_in(folder) / MANIFEST).read_text())["kind"]
        except Fault as fault:
            yield f"evaluation.reward_model={fault}"
            return
        if kind != "reward_model":
            yield f"evaluation.reward_model={folder}: is a {kind}; name the folder of a reward model"


def _early_stop(run: Run) -> Iterator[str]:
    config = run.early_stop
    if config.metric is not None:
        yield from _metric(run, config.metric)
    if config.max_kl is not None and run.stage not in PRICED:
        yield f"early_stop.max_kl={config.max_kl}: stage={run.stage} has no such KL; it is for {', '.join(PRICED)}"


def _metric(run: Run, metric: str) -> Iterator[str]:
    """Is it measured, and is it known which way it is better?"""
    known, goal = followed.measured(run, run.stage), run.early_stop.goal
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=1)
        choose = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
        yield f"early_stop.metric={metric}: no evaluation of stage={run.stage} measures it; {choose}"
    elif known[metric] is None and goal is None:
        yield f"early_stop.goal=null: which way early_stop.metric={metric} is better depends; set minimize or maximize"
    elif goal is not None and known[metric] not in (None, goal):
        yield f"early_stop.goal={goal.name}: {metric} is better the other way; leave early_stop.goal out"


def _reward(run: Run) -> Iterator[str]:
    reward = run.reward
    match reward.kind:
        case RewardKind.function:
            if reward.function is None:
                yield "reward.function=null: reward=function needs a rule; choose length, regex, answer or sentiment"
            if reward.function is RewardFunction.length and reward.target_words is None:
                yield "reward.target_words=null: reward.function=length needs a number of words"
            if reward.function is RewardFunction.regex and reward.pattern is None:
                yield "reward.pattern=null: reward.function=regex needs what to look for"
            if reward.function is RewardFunction.sentiment and importlib.util.find_spec("vaderSentiment") is None:
                yield "reward.function=sentiment: is not installed; pip install 'rlhf[sentiment]'"
            if reward.pattern is not None:
                yield from _pattern(reward.pattern, group=reward.function is RewardFunction.answer)
        case RewardKind.file:
            try:
                looked_at(reward.path or "null")
            except Fault as fault:
                yield str(fault)
        case RewardKind.http:
            yield from _address(reward.url or "null", reward.allow_remote)
        case RewardKind.model:
            config = getattr(run, run.stage)
            if reward.members > 1 and config.reward_normalization is RewardNormalization.none:
                yield (
                    f"reward.members={reward.members}: reward models have their zeros anywhere, so their scores are combined "
                    f"in deviations on the SFT policy's responses; use {run.stage}.reward_normalization=reference"
                )


def _address(url: str, allow_remote: bool) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        sound = False
    if not sound or not url.isprintable() or " " in url:
        yield f"reward.url={url}: is no address; write http://127.0.0.1:<port>/<path>"
    elif not allow_remote and not is_loopback(url):
        yield (
            f"reward.url={url}: would send prompts and responses to another machine; "
            "add reward.allow_remote=true if that is meant"
        )


def _pattern(pattern: str, group: bool) -> Iterator[str]:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        yield f"reward.pattern={pattern}: is no regular expression ({error}); see docs.python.org/3/library/re"
        return
    if group and not groups:
        yield f"reward.pattern={pattern}: reward.function=answer takes the answer from the first group; put it in brackets"


def _train(run: Run, name: str, config: TrainConfig) -> Iterator[str]:
    if isinstance(config, DPOConfig | KTOConfig):
        yield from _no_dropout(run, name, config.gradient_checkpointing, "model")
    if isinstance(config, KTOConfig) and config.reference_point is ReferencePoint.batch and config.batch_size == 1:
        yield "kto.batch_size=1: kto.reference_point=batch needs the answer of another prompt; use a larger batch, or zero"
    if isinstance(config, KTOConfig) and not config.desirable_weight + config.undesirable_weight:
        yield "kto.undesirable_weight=0: with kto.desirable_weight=0 there is nothing to learn; set one above 0"
    if isinstance(config, RMConfig) and config.loss is RewardModelLoss.tokenwise and config.pooling is not Pooling.last:
        yield (
            f"rm.pooling={config.pooling.name}: rm.loss=tokenwise trains the score of each token, of which the last is read; "
            "use rm.pooling=last, or rm.loss=pairwise"
        )
    if isinstance(config, SFTConfig) and config.packing:
        yield from _packing(run, config)
    yield from _batch(run, name, config.batch_size, config.micro_batch_size, "batch_size")


def _packing(run: Run, config: SFTConfig) -> Iterator[str]:
    if config.legacy_padding_loss:
        yield "sft.legacy_padding_loss=true: learns the padding of each row, and sft.packing=true leaves none; use one of them"
    if run.model.arch is not None and (wrong := packable.fault(run.model.name, run.model.arch.family.name, config.max_length)):
        yield wrong


def _online(run: Run, name: str, config: OnlineConfig) -> Iterator[str]:
    size, steps = config.batch_size, config.minibatches
    if steps > 0 and size % steps:
        yield f"{name}.minibatches={steps} does not divide {name}.batch_size={size}; choose a batch that is a multiple"
    elif steps > 0:
        yield from _batch(run, name, size // steps, config.micro_batch_size, "batch_size / minibatches")
    if config.normalization_prompts < 2 and config.reward_normalization is RewardNormalization.reference:
        yield f"{name}.normalization_prompts={config.normalization_prompts}: must be at least 2, or there is no deviation"
    networks = ("model", "reward_model") if isinstance(config, PPOConfig) else ("model",)
    yield from _no_dropout(run, name, config.gradient_checkpointing, *networks)


def _capture(name: str, config: PolicyGradientConfig) -> Iterator[str]:
    if config.capture_step is not None and config.capture_step > config.updates:
        yield (
            f"{name}.capture_step={config.capture_step}: the run has {name}.updates={config.updates}; choose one from 1 to "
            f"{config.updates}"
        )


def _critic(run: Run, config: PPOConfig) -> Iterator[str]:
    kind = run.reward.kind
    if config.critic_init is CriticInit.reward_model and kind is not RewardKind.model:
        yield f"ppo.critic_init=reward_model: there is none with reward={kind.name}; use ppo.critic_init=sft or auto"
    if config.kl_target is not None and config.kl_coef == 0:
        yield "ppo.kl_coef=0: an adaptive coefficient changes in proportion to itself, so it needs a first value above 0"
    if config.kl_target is not None and config.kl_horizon < config.batch_size:
        yield f"ppo.kl_horizon={config.kl_horizon}: must be at least ppo.batch_size={config.batch_size}"
    if config.critic_warmup >= config.updates:
        yield f"ppo.critic_warmup={config.critic_warmup}: must be below ppo.updates={config.updates}, or nothing learns"


def _groups(name: str, config: GroupedConfig) -> Iterator[str]:
    size, group = config.batch_size, config.group_size
    if group > 0 and size % group:
        yield f"{name}.group_size={group} does not divide {name}.batch_size={size}; choose a batch that is a multiple"


def _no_dropout(run: Run, name: str, recomputes: bool, *networks: str) -> Iterator[str]:
    for key in networks:
        dropout = getattr(run, key).dropout
        if dropout and recomputes:
            yield f"{key}.dropout={dropout}: must be 0 with {name}.gradient_checkpointing=true, or old and new ratios differ"


def _batch(run: Run, name: str, whole: int, micro: int, what: str) -> Iterator[str]:
    if whole < 1 or micro < 1:
        return  # which `bounds` has said
    if whole % max(run.ranks, 1):
        yield f"ranks={run.ranks} does not divide {name}.{what}={whole}; use a multiple of ranks"
    elif whole % (micro * max(run.ranks, 1)):
        part = whole // max(run.ranks, 1)
        several = f" ({part} for each of ranks={run.ranks})" if run.ranks > 1 else ""
        yield f"{name}.micro_batch_size={micro} does not divide {name}.{what}={whole}{several}; use a divisor of {part}"
