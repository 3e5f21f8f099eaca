"""What a tracker is told of a run before its first row: names, tags, configuration, axes and lineage."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf.config import Run, Zero
from rlhf.identity import Identity

TRIAL, SWEPT = "trial", "swept"
"""In the configuration that a tracker is told: number of the trial, and what its study varies."""


@dataclass(frozen=True)
class Node:
    """One place in the lineage data → SFT → reward model → PPO.

    Its name and content follow from what it is, so the run that makes it and the runs that use it name the same one, on
    any machine and without a connection.
    """

    name: str
    kind: str
    """`dataset` or `model`."""
    content: dict[str, str]


@dataclass(frozen=True)
class About:
    """One run, for a tracker."""

    folder: Path
    stage: str
    name: str
    """For people: stage, model, engine, adapters, seed and the beginning of the run signature."""
    signature: str
    """The folder's name, which is the run's own."""
    tags: list[str]
    config: dict[str, Any]
    samples_a_round: int
    """Sequences (SFT), pairs (reward model) or prompts (PPO) in one round."""
    first_round: int
    """Rounds done before this session."""
    fresh: bool
    inputs: list[Node]
    output: Node


@dataclass(frozen=True)
class OfStudy:
    """A study, for a tracker: a run of its own beside those of its trials."""

    folder: Path
    id: str
    """The same in every session, and another one where the study was begun anew."""
    name: str
    stage: str
    group: str
    goal: str
    metrics: list[str]
    """Its objectives."""
    swept: list[str]
    """What is varied, by the names that its trials' configurations have for it."""
    config: dict[str, Any]
    rows: list[dict[str, float]]
    """What is drawn, trial by trial."""
    summary: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]]
    """Rows of each, all with the same columns."""

    @property
    def digest(self) -> str:
        """Of all that is told."""
        content = json.dumps([self.config, self.rows, self.summary, self.tables], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()


def about(run: Run, identity: Identity, first_round: int) -> About:
    """What there is to say of the run ``identity``, of which ``first_round`` rounds are done."""
    stage = getattr(run, identity.stage)
    trial = run.tracker.trial if identity.stage == run.stage else None  # a parent that it trains belongs to no trial
    return About(
        folder=identity.folder,
        stage=identity.stage,
        name=("" if trial is None else f"{trial:04d}-") + display_name(run, identity),
        signature=identity.name,
        tags=[run.model.name, run.data.name, f"zero-{run.zero.name}", f"lora-{run.lora.dim}"],
        config=_config(run) | ({} if trial is None else {TRIAL: trial, SWEPT: swept(run.tracker.swept)}),
        samples_a_round=stage.batch_size,
        first_round=first_round,
        fresh=run.fresh,
        inputs=[
            Node(_name(run.data.name, identity.data_digest[:16]), "dataset", {"data_digest": identity.data_digest}),
            *(_model(name, signature) for name, signature in identity.parents.items()),
        ],
        output=_model(identity.stage, identity.result_signature),
    )


def swept(values: Mapping[str, str]) -> dict[str, Any]:
    """Numbers as numbers, under names without dots, which W&B would take for nesting: columns of its panels."""
    return {column(key): _number_or_text(value) for key, value in values.items()}


def column(key: str) -> str:
    """What a swept key is called there."""
    return re.sub(r"\W", "_", key)


def display_name(run: Run, identity: Identity) -> str:
    """Such as `ppo-opt1.3b-z3-lora128-s1-k7f2`."""
    engine = [] if run.zero is Zero["none"] else [f"z{run.zero.name}"]
    adapters = [f"lora{run.lora.dim}"] if run.lora.dim else []
    return "-".join([identity.stage, run.model.name, *engine, *adapters, f"s{run.seed}", identity.run_signature[:4]])


def _config(run: Run) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)))
    for key in (TRIAL, SWEPT):
        del config["tracker"][key]
    return config


def _number_or_text(written: str) -> Any:
    try:
        value = json.loads(written)
    except ValueError:
        return written
    return value if isinstance(value, (int, float)) else written


def _model(stage: str, signature: str) -> Node:
    return Node(_name(stage, signature), "model", {"stage": stage, "result_signature": signature})


def _name(*parts: str) -> str:
    return re.sub(r"[^\w.-]", "-", "-".join(parts))
