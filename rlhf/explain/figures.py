"""Terms in the numbers of a run, as far as its configuration knows them; what hangs on the data is said to."""

import math
from collections.abc import Callable, Iterator

from rlhf.config import (
    BestOfNConfig,
    GroupedConfig,
    OnlineConfig,
    PolicyGradientConfig,
    PPOConfig,
    Run,
    SampleFrom,
    TrainConfig,
    Zero,
)
from rlhf.lineage import ONLINE, chain


def of(term: str, run: Run) -> list[str]:
    """What ``term`` comes to in ``run``, a line each; empty where a number would say nothing."""
    return list(_FIGURES[term](run)) if term in _FIGURES else []


def _supervised(run: Run) -> Iterator[tuple[str, TrainConfig]]:
    yield from ((name, getattr(run, name)) for name in chain(run, run.stage) if name not in ONLINE)


def _online(run: Run) -> Iterator[tuple[str, OnlineConfig]]:
    yield from [(run.stage, getattr(run, run.stage))] if run.stage in ONLINE else []


def _prompts(online: OnlineConfig) -> int:
    return online.batch_size // (online.group_size if isinstance(online, GroupedConfig) else 1)


def _sampled(online: OnlineConfig) -> int:
    return online.batch_size * (online.n if isinstance(online, BestOfNConfig) else 1)


def _rollout_of(online: OnlineConfig) -> str:
    prompts = _prompts(online)
    each = _sampled(online) // prompts
    kept = ", of which the best is kept" if isinstance(online, BestOfNConfig) else ""
    return f"{prompts} prompts{f' × {each} responses' if each > 1 else ''}{kept}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _noun(stage: str) -> str:
    return {"pretrain": "block", "rm": "pair", "dpo": "pair", "kto": "answer"}.get(stage, "sequence")


def _pieces(whole: int, micro: int, ranks: int) -> str:
    steps = _many(whole // (micro * ranks), "accumulation step")
    return f"{whole} = {_many(ranks, 'rank')} × {micro} in a micro-batch × {steps}"


def _batch(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        pieces = _pieces(config.batch_size, config.micro_batch_size, run.ranks)
        yield f"{name}: {_many(config.batch_size, _noun(name))} an optimizer step; {pieces}"
    for name, online in _online(run):
        whole = online.batch_size // online.minibatches
        yield (
            f"{name}: {_rollout_of(online)} a rollout; {_many(whole, 'response')} an optimizer step; "
            f"{_pieces(whole, online.micro_batch_size, run.ranks)}"
        )


def _epoch(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        noun, size = _noun(name), config.batch_size
        limit = ""
        if config.max_steps is not None:
            seen = _many(config.max_steps * size, noun)
            limit = f", but no more than {name}.max_steps = {config.max_steps} of them ({seen})"
        yield f"{name}: {config.epochs:g} × (training {noun}s / {size}) steps{limit}; the data has the number of {noun}s"
    for name, online in _online(run):
        prompts = _prompts(online)
        yield f"{name}: counts updates instead: {online.updates} × {prompts} prompts = {online.updates * prompts:,} in all"


def _step(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        most = f"at most {config.max_steps}" if config.max_steps is not None else f"as many as {config.epochs:g} epochs have"
        yield f"{name}: {most}, {_many(config.batch_size, _noun(name))} each"
    yield from _update(run)


def _update(run: Run) -> Iterator[str]:
    for name, online in _online(run):
        steps = online.inner_epochs * online.minibatches
        yield (
            f"{name}: {online.updates} updates; each has {online.inner_epochs} inner epochs × {online.minibatches} minibatches "
            f"= {_many(steps, 'optimizer step')}, {online.updates * steps:,} in all"
        )


def _rollout(run: Run) -> Iterator[str]:
    length, together = run.rollout.max_new_tokens, run.rollout.micro_batch_size
    for name, online in _online(run):
        size = _sampled(online)
        yield f"{name}: {size} responses of up to {length} tokens, so at most {size * length:,} tokens a rollout"
        turns = _pieces(size, min(together, size // run.ranks), run.ranks)
        yield f"{name}: {turns}".replace("accumulation step", "turn").replace("in a micro-batch", "sampled at once")
        yield f"{name}: {online.updates} rollouts, each learnt from {online.inner_epochs} times"


def _warm_up(run: Run) -> Iterator[str]:
    configs: list[tuple[str, TrainConfig | OnlineConfig]] = [*_supervised(run), *_online(run)]
    for name, config in configs:
        size = f"{config.learning_rate:g}"
        rise = f"from 0 to {size} over {config.warmup_steps} steps" if config.warmup_steps else f"{size} from the first step"
        yield f"{name}: {rise}, then {config.schedule.name}, {config.final_lr_fraction:g} of it left at the end"


def _kl(run: Run) -> Iterator[str]:
    for name, online in _online(run):
        if isinstance(online, BestOfNConfig):
            bound = math.log(online.n) - (online.n - 1) / online.n
            again = ", in each update from the last" if online.sample_from is SampleFrom.current else ""
            yield f"{name}: the best of {online.n} responses is at most {bound:.2f} nats away from one{again}; no price is paid"
        if not isinstance(online, PolicyGradientConfig):
            continue
        if isinstance(online, PPOConfig) and online.kl_target is not None:
            yield f"{name}: the price starts at {online.kl_coef:g} and moves until a response costs {online.kl_target:g} nats"
        else:
            yield f"{name}: {online.kl_coef:g} deviations of score are paid for each nat"
        if online.kl_coef:
            yield f"{name}: a response that is 10 nats away needs a score {10 * online.kl_coef:g} higher to be worth it"


def _lora(run: Run) -> Iterator[str]:
    for key, lora in (("lora", run.lora), ("reward_lora", run.reward_lora)):
        if lora.dim <= 0:
            yield f"{key}: none; all weights are trained"
            continue
        scale = lora.alpha / (lora.dim**0.5 if lora.rslora else lora.dim)
        yield f"{key}: rank {lora.dim}, output scaled by {lora.alpha:g} / {'√' if lora.rslora else ''}{lora.dim} = {scale:g}"


def _zero(run: Run) -> Iterator[str]:
    if run.zero is Zero["none"]:
        yield "zero=none: plain torch on one device, nothing is shared"
        return
    shared = (
        "nothing",
        "the optimizer's state",
        "the optimizer's state and the gradients",
        "optimizer's state, gradients and weights",
    )
    yield f"zero={run.zero.name}: {shared[run.zero.value]} split over {_many(run.ranks, 'rank')}"


def _length(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        yield f"{name}: up to {config.max_length} tokens"
    for name, _ in _online(run):
        prompt, response = run.rollout.max_prompt_tokens, run.rollout.max_new_tokens
        yield f"{name}: up to {prompt} tokens of prompt + {response} of response = {prompt + response}"
    if run.model.arch is not None:
        yield f"model={run.model.name} reads up to {run.model.arch.max_positions}"


def _chain(run: Run) -> Iterator[str]:
    yield f"stage={run.stage}: {' → '.join(chain(run, run.stage))}"


_FIGURES: dict[str, Callable[[Run], Iterator[str]]] = {
    "batch": _batch,
    "micro batch": _batch,
    "gradient accumulation": _batch,
    "epoch": _epoch,
    "step": _step,
    "update": _update,
    "minibatch": _update,
    "inner epoch": _update,
    "rollout": _rollout,
    "warm up": _warm_up,
    "learning rate": _warm_up,
    "kl": _kl,
    "lora": _lora,
    "zero": _zero,
    "rank": _zero,
    "length": _length,
    "chain": _chain,
    "stage": _chain,
}
"""By the first name of the glossary's entry."""

TERMS = tuple(_FIGURES)
"""Terms that have numbers."""
