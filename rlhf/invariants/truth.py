"""Updates as plain torch computes them on one device, in whole batches: what every other way is held against."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf import chain, overrides
from rlhf.config import Run
from rlhf.engine.base import Engine
from rlhf.engine.torch_engine import TorchEngine
from rlhf.invariants import rollouts
from rlhf.invariants.compare import ForwardOrder, rms_moved
from rlhf.invariants.updates import WHOLE, Paddable, Row, build, learn, record, weights
from rlhf.invariants.ways import plain
from rlhf.stages.interface import Batch, Stage

CONFIG, BATCHES, TOLD = "config.yaml", "batches.pt", "truth.json"


def typed(config: DictConfig) -> Run:
    """The run that ``config`` describes."""
    run = OmegaConf.to_object(config)
    assert isinstance(run, Run)
    return run


def with_overrides(config: DictConfig, texts: Sequence[str]) -> DictConfig:
    """A copy of ``config`` with ``texts``.

    Raises:
        Fault: a key is not there, or takes no such value.
    """
    changed = config.copy()
    overrides.apply(changed, texts, "see docs/config.md")
    return changed


@dataclass(frozen=True)
class Truth:
    """Recorded batches and what came of them, kept in a folder, where ranks find it too."""

    folder: Path
    config: DictConfig
    """The run as the user means it."""
    parents: dict[str, Path]
    batches: list[Batch]
    size: int
    """Rows of a batch."""
    rows: list[Row]
    order: list[str]
    """What is trained, as `network/parameter`, in the order of the forward pass."""
    moved: float
    """How far the updates took the weights, in parts of their size."""
    prompts: rollouts.Tokens
    """What is answered after the last update; empty without a policy."""
    answers: rollouts.Tokens
    """Greedy ones, sampled side by side."""
    vocabulary: int
    """Of the policy; 0: there is none."""

    @classmethod
    def record(cls, config: DictConfig, parents: dict[str, Path], folder: Path, updates: int) -> "Truth":
        """Record ``updates`` batches and learn them.

        Raises:
            Fault: what the user named cannot be used.
            NonFinite: a loss or a gradient norm is not a finite number.
        """
        OmegaConf.save(config, folder / CONFIG)
        run = typed(with_overrides(config, plain(typed(config))))
        batches = record(_built(run, parents)[0], updates)
        torch.save(batches, folder / BATCHES)
        stage, engine = _built(run, parents)
        before = weights(engine)
        order = ForwardOrder(stage.trainable())
        rows = learn(stage, engine, batches[:1], WHOLE)
        names = order.end()
        rows += learn(stage, engine, batches[1:], WHOLE, first=1)
        save_tensors(folder, updates, engine)
        asked, answers, vocabulary = _answers(stage, engine, run)
        told = {
            "parents": {name: str(path) for name, path in parents.items()},
            "size": len(batches[0].split(1)),
            "rows": rows,
            "order": names,
            "moved": rms_moved(before, engine.tensors()),
            "prompts": asked,
            "answers": answers,
            "vocabulary": vocabulary,
        }
        (folder / TOLD).write_text(json.dumps(told))
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read what ``record`` has left."""
        config = OmegaConf.merge(OmegaConf.structured(Run), OmegaConf.load(folder / CONFIG))
        assert isinstance(config, DictConfig)
        told = json.loads((folder / TOLD).read_text())
        told["parents"] = {name: Path(path) for name, path in told["parents"].items()}
        batches = torch.load(folder / BATCHES, weights_only=False)  # our own objects, from our own folder
        return cls(folder, config, batches=batches, **told)

    @property
    def updates(self) -> int:
        """How many there are."""
        return len(self.batches)

    @property
    def paddable(self) -> bool:
        """Whether the batches take more padding than they need."""
        return all(isinstance(part, Paddable) for part in self.batches[0].split(WHOLE))

    def run(self, texts: Sequence[str]) -> Run:
        """The run on plain torch, but for ``texts``.

        Raises:
            Fault: a key is not there, or takes no such value.
        """
        return typed(with_overrides(self.config, [*plain(typed(self.config)), *texts]))

    def tensors(self, updates: int) -> dict[str, Tensor]:
        """Weights and moments after so many updates, which were kept or are computed now."""
        path = _tensors_at(self.folder, updates)
        if not path.exists():
            stage, engine = _built(self.run(()), self.parents)
            learn(stage, engine, self.batches[:updates], WHOLE)
            save_tensors(self.folder, updates, engine)
        return load_file(path)


def save_tensors(folder: Path, updates: int, engine: Engine) -> None:
    """Keep weights and moments as they are after so many updates."""
    save_file({name: value.cpu().contiguous() for name, value in engine.tensors().items()}, _tensors_at(folder, updates))


def _tensors_at(folder: Path, updates: int) -> Path:
    return folder / f"after-{updates}.safetensors"


def _built(run: Run, parents: dict[str, Path]) -> tuple[Stage[Any], Engine]:
    engine = TorchEngine(run.device, run.precision, run.deterministic)
    return build(run, engine, parents), engine


def _answers(stage: Stage[Any], engine: Engine, run: Run) -> tuple[rollouts.Tokens, rollouts.Tokens, int]:
    """Prompts, the policy's greedy answers to them, and the size of its vocabulary; nothing without a policy."""
    if stage.makes != "policy":
        return [], [], 0
    policy, tokenizer = stage.export()
    asked = rollouts.prompts(chain.load_corpus(run), tokenizer, run)
    return asked, rollouts.greedy(stage, engine, asked, run.rollout), policy.get_output_embeddings().weight.shape[0]
