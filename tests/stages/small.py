"""Small real stages: two-layer networks on the demo, composed as the command line composes them."""

from dataclasses import replace
from pathlib import Path

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rlhf import chain, config, lineage
from rlhf.composing import Composer
from rlhf.config import Run
from rlhf.invariants import compare, updates
from rlhf.stages.batches import Tokens
from rlhf.stages.interface import Batch, Stage
from rlhf.stages.kto import KTO
from rlhf.stages.policies import Padded
from rlhf.stages.ppo import PPO

COMPOSER = Composer()
"""Its memory is what makes hundreds of small runs quick to compose."""


def make_run(outputs: Path, *overrides: str) -> Run:
    """A run of ``debug=smoke`` in ``outputs``; overrides are added behind."""
    texts = ["debug=smoke", f"paths.outputs={outputs}", *overrides]
    if not any(text.startswith("data=") for text in overrides):
        texts += [f"data.sources.{source}.cap=200" for source in ("documents", "demonstrations", "preferences", "prompts")]
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        run = OmegaConf.to_object(COMPOSER.compose(texts))
    assert isinstance(run, Run)
    return run


def train_parents(outputs: Path, run: Run) -> dict[str, Path]:
    """The artifacts ``run`` starts from, trained in ``outputs`` for two steps if they are not there."""
    parents = {}
    here = replace(run, paths=replace(run.paths, outputs=str(outputs)))
    for name in lineage.parents(run, run.stage):
        result = chain.execute(replace(lineage.as_parent(here, name), stage=lineage.stage_of(name)))
        assert result.artifact is not None, result.message
        parents[name] = Path(result.artifact)
    return parents


build, record, drift = updates.build, updates.record, compare.drift


def learn(stage: Stage, batches: list[Batch], micro_batch_size: int) -> list[dict[str, float]]:
    """One optimizer step on each of the recorded batches; the loss and gradient norms of each."""
    return updates.learn(stage, stage._setting.engine, batches, micro_batch_size)


def score(stage: Stage, batches: list[Batch]) -> dict[str, float]:
    """What is measured with the networks as they are: by PPO of recorded responses KL, scores, entropy and how
    far several reward models disagree; by KTO its point."""
    if isinstance(stage, KTO):
        return {"kto/reference_point": stage.reference_point(tokens(batches[0].answers) + tokens(batches[1].answers), 2)}
    if not isinstance(stage, PPO):
        return {}
    rows = tokens(batches[0]) + tokens(batches[1])
    examples = [example for example, _ in stage._online._prompts[: len(rows)]]
    measured = stage.score_rollout(examples, rows).metrics.values_by_name()
    names = ("objective/kl", "objective/scores", "objective/entropy", "objective/disagreement")
    return {name: measured[name] for name in names if name in measured}


def tokens(batch: Padded) -> list[Tokens]:
    """Prompts and answers of a batch."""
    parts = zip(batch.ids, batch.mask, batch.targets, strict=True)
    return [(ids[mask & ~targets].tolist(), ids[targets].tolist()) for ids, mask, targets in parts]


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    """What is trained, by name."""
    return updates.weights(stage._setting.engine)


def faults(expected: list[dict[str, float]], rows: list[dict[str, float]]) -> list[str]:
    """Where ``rows`` are off by more than the verb `invariants` allows."""
    return [str(each) for each in compare.wrong_figures(expected, rows)]
