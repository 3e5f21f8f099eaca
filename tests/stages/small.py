"""Small real stages: two-layer networks on the demo, composed as the command line composes them."""

import itertools
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rlhf import chain, config, lineage, preflight
from rlhf.config import Run
from rlhf.engine.base import Engine
from rlhf.metrics import Mean, Metrics
from rlhf.stages.interface import Batch, Setting, Stage
from rlhf.stages.ppo import PPO
from rlhf.stages.table import TABLE


def make_run(outputs: Path, *overrides: str) -> Run:
    """A run of ``debug=smoke`` in ``outputs``; overrides are added behind."""
    texts = ["debug=smoke", f"paths.outputs={outputs}", *overrides]
    if not any(text.startswith("data=") for text in overrides):
        texts += [f"data.sources.{source}.cap=200" for source in ("documents", "demonstrations", "preferences", "prompts")]
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        composed = compose("config", [*texts, *preflight.companions(texts)])
    run = OmegaConf.to_object(composed)
    assert isinstance(run, Run)
    return run


def train_parents(outputs: Path, stage: str, *overrides: str) -> dict[str, Path]:
    """The artifacts ``stage`` starts from, trained for two steps if they are not there, on plain torch."""
    parents = {}
    for name in lineage.parents(make_run(outputs, f"stage={stage}", *overrides), stage):
        result = chain.execute(make_run(outputs, f"stage={name}", *overrides))
        assert result.artifact is not None, result.message
        parents[name] = Path(result.artifact)
    return parents


def build(run: Run, engine: Engine, parents: dict[str, Path]) -> Stage:
    """A stage ready for its loss."""
    return TABLE[run.stage](Setting(run, chain.load_corpus(run), engine, parents))


def record(stage: Stage, updates: int) -> list[Batch]:
    """The first batches a stage would learn from."""
    return list(itertools.islice(itertools.chain.from_iterable(stage.batches(0)), updates))


def learn(stage: Stage, batches: list[Batch], micro_batch_size: int) -> list[dict[str, float]]:
    """One optimizer step on each of the recorded batches; the loss and gradient norms of each."""
    engine, rows = stage._setting.engine, []
    for batch in batches:
        metrics = Metrics()
        micro_batches = engine.share(batch.split(micro_batch_size))
        for index, micro in enumerate(micro_batches, 1):
            losses, _ = stage.loss(micro)
            engine.backward({name: loss / batch.weight for name, loss in losses.items()}, last=index == len(micro_batches))
            metrics += {"loss": Mean(sum(loss.item() for loss in losses.values()), micro.weight)}
        rows.append((engine.total(metrics) + engine.step()).values_by_name())
    return rows


def score(stage: Stage, batches: list[Batch]) -> dict[str, float]:
    """What PPO measures of the recorded responses with its networks as they are: KL to the reference, scores, values."""
    if not isinstance(stage, PPO):
        return {}
    rows = [
        (ids[mask & ~targets].tolist(), ids[targets].tolist())
        for batch in batches[:2]
        for ids, mask, targets in zip(batch.ids, batch.mask, batch.targets, strict=True)
    ]
    examples = [example for example, _ in stage._prompts[: len(rows)]]
    measured = stage.score_rollout(examples, rows).metrics.values_by_name()
    return {name: measured[name] for name in ("objective/kl", "objective/scores", "objective/entropy")}


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    """What is trained, by name."""
    return {name: tensor.clone() for name, tensor in stage._setting.engine.tensors().items() if "/weights/" in name}


def faults(expected: list[dict[str, float]], rows: list[dict[str, float]], tolerance: float = 1e-5) -> list[str]:
    """Where ``rows`` are off by more than ``tolerance`` x max(0.1, |x|)."""
    return [
        f"update {update}: {name} is {got[name]}, not {value}"
        for update, (want, got) in enumerate(zip(expected, rows, strict=True))
        for name, value in want.items()
        if not abs(got[name] - value) <= tolerance * max(0.1, abs(value))
    ]


def drift(expected: dict[str, torch.Tensor], got: dict[str, torch.Tensor]) -> float:
    """Largest relative L2 difference of a tensor."""
    assert expected.keys() == got.keys()
    return max(((got[name] - tensor).norm() / tensor.norm().clamp(min=1e-12)).item() for name, tensor in expected.items())
