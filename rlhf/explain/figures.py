"""Terms in the numbers of a run, as far as its configuration knows them; what hangs on the data is said to."""

from collections.abc import Callable, Iterator

from rlhf.config import PPOConfig, Run, TrainConfig, Zero
from rlhf.lineage import chain


def of(term: str, run: Run) -> list[str]:
    """What ``term`` comes to in ``run``, a line each; empty where a number would say nothing."""
    return list(_FIGURES[term](run)) if term in _FIGURES else []


def _supervised(run: Run) -> Iterator[tuple[str, TrainConfig]]:
    yield from ((name, getattr(run, name)) for name in chain(run, run.stage) if name != "ppo")


def _ppo(run: Run) -> Iterator[PPOConfig]:
    yield from [run.ppo] if run.stage == "ppo" else []


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _noun(stage: str) -> str:
    return {"pretrain": "block", "rm": "pair", "dpo": "pair"}.get(stage, "sequence")


def _pieces(whole: int, micro: int, ranks: int) -> str:
    steps = _many(whole // (micro * ranks), "accumulation step")
    return f"{whole} = {_many(ranks, 'rank')} × {micro} in a micro-batch × {steps}"


def _batch(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        pieces = _pieces(config.batch_size, config.micro_batch_size, run.ranks)
        yield f"{name}: {_many(config.batch_size, _noun(name))} an optimizer step; {pieces}"
    for ppo in _ppo(run):
        whole = ppo.batch_size // ppo.minibatches
        yield (
            f"ppo: {ppo.batch_size} prompts a rollout; {_many(whole, 'response')} an optimizer step; "
            f"{_pieces(whole, ppo.micro_batch_size, run.ranks)}"
        )


def _epoch(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        noun, size = _noun(name), config.batch_size
        limit = ""
        if config.max_steps is not None:
            seen = _many(config.max_steps * size, noun)
            limit = f", but no more than {name}.max_steps = {config.max_steps} of them ({seen})"
        yield f"{name}: {config.epochs:g} × (training {noun}s / {size}) steps{limit}; the data has the number of {noun}s"
    for ppo in _ppo(run):
        yield f"ppo: counts updates instead: {ppo.updates} × {ppo.batch_size} prompts = {ppo.updates * ppo.batch_size:,} in all"


def _step(run: Run) -> Iterator[str]:
    for name, config in _supervised(run):
        most = f"at most {config.max_steps}" if config.max_steps is not None else f"as many as {config.epochs:g} epochs have"
        yield f"{name}: {most}, {_many(config.batch_size, _noun(name))} each"
    yield from _update(run)


def _update(run: Run) -> Iterator[str]:
    for ppo in _ppo(run):
        steps = ppo.inner_epochs * ppo.minibatches
        yield (
            f"ppo: {ppo.updates} updates; each has {ppo.inner_epochs} inner epochs × {ppo.minibatches} minibatches = "
            f"{_many(steps, 'optimizer step')}, {ppo.updates * steps:,} in all"
        )


def _rollout(run: Run) -> Iterator[str]:
    rollout = run.rollout
    for ppo in _ppo(run):
        most = ppo.batch_size * rollout.max_new_tokens
        yield f"ppo: {ppo.batch_size} responses of up to {rollout.max_new_tokens} tokens, so at most {most:,} tokens a rollout"
        yield f"ppo: {_pieces(ppo.batch_size, min(rollout.micro_batch_size, ppo.batch_size // run.ranks), run.ranks)}".replace(
            "accumulation step", "turn"
        ).replace("in a micro-batch", "sampled at once")
        yield f"ppo: {ppo.updates} rollouts, each learnt from {ppo.inner_epochs} times"


def _warm_up(run: Run) -> Iterator[str]:
    configs: list[tuple[str, TrainConfig | PPOConfig]] = [*_supervised(run), *(("ppo", ppo) for ppo in _ppo(run))]
    for name, config in configs:
        size = f"{config.learning_rate:g}"
        rise = f"from 0 to {size} over {config.warmup_steps} steps" if config.warmup_steps else f"{size} from the first step"
        yield f"{name}: {rise}, then {config.schedule.name}, {config.final_lr_fraction:g} of it left at the end"


def _kl(run: Run) -> Iterator[str]:
    for ppo in _ppo(run):
        yield (
            f"ppo: {ppo.kl_coef:g} deviations of score are paid for each nat"
            if (ppo.kl_target is None)
            else f"ppo: the price starts at {ppo.kl_coef:g} and moves until a response costs {ppo.kl_target:g} nats"
        )
        if ppo.kl_coef:
            yield f"ppo: a response that is 10 nats away needs a score {10 * ppo.kl_coef:g} higher to be worth it"


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
    for _ in _ppo(run):
        prompt, response = run.rollout.max_prompt_tokens, run.rollout.max_new_tokens
        yield f"ppo: up to {prompt} tokens of prompt + {response} of response = {prompt + response}"
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
