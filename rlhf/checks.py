"""Faults across fields: what a type cannot say. Torch-free, so that every job of a study is checked before the first starts."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from rlhf import bounds, followed, stage_checks
from rlhf.config import (
    CONF,
    PARTS,
    STAGES,
    ArchConfig,
    Family,
    Pruner,
    RewardModelInit,
    Run,
    TrackerKind,
)
from rlhf.engine import checks as engine
from rlhf.lineage import JUDGED, LEARNS, ONLINE, chain, parents
from rlhf.models import packaged


def faults(run: Run) -> list[str]:
    """Everything wrong with ``run``, one line each: key, value, rule, fix. Empty if it may start."""
    return [
        *bounds.faults(run),
        *engine.faults(run),
        *_model(run),
        *_data(run),
        *_lengths(run),
        *_parents(run),
        *_tracker(run),
        *_pruning(run),
        *stage_checks.faults(run),
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
    if arch.hidden_size % max(arch.heads, 1):
        yield f"{key}.heads={arch.heads} does not divide {key}.hidden_size={arch.hidden_size}; choose sizes that divide"
    if arch.kv_heads is not None and arch.heads % max(arch.kv_heads, 1):
        yield f"{key}.kv_heads={arch.kv_heads} does not divide {key}.heads={arch.heads}; choose sizes that divide, or null"
    if arch.family is Family.bloom and arch.ffn_size != 4 * arch.hidden_size:
        yield f"{key}.ffn_size={arch.ffn_size}: bloom has no other than 4 * hidden_size; use {4 * arch.hidden_size}"
    if arch.family in (Family.llama, Family.qwen3, Family.gpt_neox) and arch.rope_theta is None:
        yield f"{key}.rope_theta=null: {arch.family.name} turns by position and needs a base; 10000 is usual"


def _data(run: Run) -> Iterator[str]:
    if not run.data.sources:
        yield "data.sources: is empty; choose a data option or name a source"
    if run.data.system_prompt is not None and not run.data.system_prompt.strip():
        yield "data.system_prompt: is blank; write one, or null for none"
    for name, source in run.data.sources.items():
        key = f"data.sources.{name}"
        for stage in source.stages:
            if stage in STAGES and stage not in PARTS:
                yield f"{key}.stages: {stage} learns from what stage `{LEARNS[stage]}` has; choose from {', '.join(PARTS)}"
            elif stage not in PARTS:
                yield f"{key}.stages: there is no stage `{stage}`; choose from {', '.join(PARTS)}"
        if not source.path.startswith("hub:"):
            for field in ("subset", "files", "streaming"):
                if getattr(source, field):
                    yield f"{key}.{field}={getattr(source, field)}: goes with path=hub:<id> only; leave it out"
            if source.split != OmegaConf.load(CONF / "source" / "default.yaml").split:
                yield f"{key}.split={source.split}: goes with path=hub:<id> only; leave it out, and name the file you mean"
        elif source.streaming and source.cap is None:
            yield f"{key}.streaming=true: needs {key}.cap, or the whole data set is read"


def _lengths(run: Run) -> Iterator[str]:
    rollout = run.rollout
    if run.model.arch is not None:
        limit = run.model.arch.max_positions
        longest = {f"{name}.max_length": getattr(run, name).max_length for name in STAGES if name not in ONLINE}
        longest = {key: length for key, length in longest.items() if key.split(".")[0] in chain(run, run.stage)}
        longest["rollout.max_prompt_tokens + rollout.max_new_tokens"] = rollout.max_prompt_tokens + rollout.max_new_tokens
        for key, length in longest.items():
            if length > limit:
                yield f"{key}={length}: longer than the {limit} positions of model={run.model.name}; shorten it"


def _parents(run: Run) -> Iterator[str]:
    """Before hours are spent on the other parent: is what the user points at there, and of use?"""
    read = {parent for stage in chain(run, run.stage) for parent in parents(run, stage)}
    others = run.parents.rm_members
    if "rm" in read and len(others) != (run.reward.members - 1 if run.parents.rm is not None else 0):
        yield (
            f"parents.rm_members={others}: names {len(others)} beside parents.rm={run.parents.rm or 'null'}, and "
            f"reward.members={run.reward.members}; bring all of an ensemble's reward models or none"
        )
    brought = [("pretrain", run.parents.pretrain), ("sft", run.parents.sft), ("rm", run.parents.rm)]
    for name, given in [*brought, *(("rm_members", each) for each in others)]:
        if given is None:
            continue
        key = f"parents.{name}={given}"
        if name.removesuffix("_members") not in read:
            reasons = {"rm": "rm.init=base"} | {stage: f"{stage}.init={getattr(run, stage).init.name}" for stage in JUDGED}
            reasons |= dict.fromkeys(ONLINE, f"reward={run.reward.kind.name}")
            why = f" with {reasons[run.stage]}" if run.stage in reasons else ""
            yield f"{key}: stage={run.stage}{why} does not start from one; leave it out"
        elif (Path(given) / "artifact").is_dir():
            yield f"{key}: is the folder of a run; name the model in it: parents.{name}={given.rstrip('/')}/artifact"
        elif (given[:1] in "/~." or given.count("/") > 1) and not Path(given).is_dir():
            yield f"{key}: there is no such folder; write an artifact's folder in full, or a hub id"


def _tracker(run: Run) -> Iterator[str]:
    if run.tracker.kind is TrackerKind.tensorboard and importlib.util.find_spec("tensorboard") is None:
        yield "tracker=tensorboard: is not installed; pip install 'rlhf[tensorboard]', or tracker=none"


def _pruning(run: Run) -> Iterator[str]:
    if run.sweep.pruner is not Pruner.none and run.stage in STAGES and not followed.on_the_way(getattr(run, run.stage)):
        yield (
            f"sweep.pruner={run.sweep.pruner.name}: judges evaluations on the way, and {run.stage}.eval_every=0 makes none; "
            f"set {run.stage}.eval_every to a number of rounds"
        )
