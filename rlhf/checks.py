"""Faults across fields: what a type cannot say. Torch-free, so that every job of a study is checked before the first starts."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from rlhf import stage_checks
from rlhf.config import (
    STAGES,
    ArchConfig,
    ChatConfig,
    Family,
    Pruner,
    RewardModelInit,
    Run,
    TrackerKind,
)
from rlhf.engine import checks as engine
from rlhf.lineage import chain, parents
from rlhf.models import packaged


def faults(run: Run) -> list[str]:
    """Everything wrong with ``run``, one line each: key, value, rule, fix. Empty if it may start."""
    return [
        *engine.faults(run),
        *_model(run),
        *_data(run),
        *_lengths(run),
        *_parents(run),
        *_tracker(run),
        *_pruning(run),
        *stage_checks.faults(run),
        *(f"chat.{fault}" for fault in chat(run.chat)),
    ]


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
    if not 0 < run.data.temperature < float("inf"):
        yield f"data.temperature={run.data.temperature}: must be above 0; 1 leaves the sources as large as they are"
    if run.data.system_prompt is not None and not run.data.system_prompt.strip():
        yield "data.system_prompt: is blank; write one, or null for none"
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


def _pruning(run: Run) -> Iterator[str]:
    sweep = run.sweep
    if sweep.reduction < 2:
        yield f"sweep.reduction={sweep.reduction}: must be at least 2, or no trial is ever behind"
    for key in ("brackets", "min_rung", "warmup_trials"):
        if getattr(sweep, key) < 1:
            yield f"sweep.{key}={getattr(sweep, key)}: must be at least 1"
    if not 0 < sweep.verdict_seconds <= 300:  # the other ranks wait too, and their links give up after ten minutes
        yield f"sweep.verdict_seconds={sweep.verdict_seconds}: must be above 0 and at most 300"
    if sweep.pruner is not Pruner.none and run.stage in STAGES and not getattr(run, run.stage).eval_every:
        yield (
            f"sweep.pruner={sweep.pruner.name}: judges evaluations on the way, and {run.stage}.eval_every=0 makes none; "
            f"set {run.stage}.eval_every to a number of rounds"
        )
