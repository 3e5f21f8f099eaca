"""Keeps one update of a run as a capsule, while the run goes on."""

from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from rlhf import artifact, provenance
from rlhf.config import PolicyGradientConfig, Run
from rlhf.engine.base import Engine
from rlhf.identity import Identity
from rlhf.metrics import Metrics
from rlhf.replay import capsule, moved
from rlhf.replay.places import CAPSULE
from rlhf.stages.interface import Replayable, Stage
from rlhf.watcher import STAGE, carried

AVERAGE = f"{STAGE}average/"
"""Begins the names of what a running average carries, which no update reads."""


class Capture:
    """What the loop tells before and after each round; all ranks must have one or none."""

    def __init__(self, run: Run, identity: Identity, stage: Stage[Any], engine: Engine) -> None:
        self._run, self._identity, self._engine = run, identity, engine
        self._stage, self._step = stage, wanted(run, identity.stage)
        self._begun = identity.folder / f".{CAPSULE}-before.safetensors"
        self._steps_before = 0

    def begins(self, round_: int) -> None:
        """Keep what round ``round_`` (from 0) starts from, if it is the one that is wanted."""
        if round_ + 1 != self._step:
            return
        tensors = {name: each for name, each in carried(self._stage, self._engine).items() if not name.startswith(AVERAGE)}
        self._steps_before = self._engine.steps
        if self._engine.rank == 0:
            save_file({name: each.detach().cpu().contiguous() for name, each in tensors.items()}, self._begun)

    def ended(self, round_: int, metrics: Metrics) -> None:
        """Seal the capsule of round ``round_``, which measured ``metrics``, if it is the one that is wanted."""
        if round_ + 1 != self._step:
            return
        stage, after = cast(Replayable, self._stage), self._engine.tensors()
        networks, captured = stage.networks(), stage.captured()
        if self._engine.rank != 0:
            return
        about = capsule.About(
            stage=self._identity.stage,
            update=self._step,
            steps=self._steps_before,
            critic_speaks_scores=captured.critic_speaks_scores,
            metrics=metrics.values_by_name() | moved.distances(load_file(self._begun), after),
            weights=moved.digests(after),
            device=self._engine.device.type,
            machine=provenance.device(),
            threads=torch.get_num_threads(),
            versions=provenance.versions(),
        )
        _, tokenizer = self._stage.export()

        def write(target: Path) -> None:
            for name, (network, weights) in networks.items():
                artifact.write_network(target / name, network, weights)
                tokenizer.save_pretrained(target / name)

        folder = self._identity.folder / CAPSULE
        capsule.save(folder, OmegaConf.to_yaml(OmegaConf.structured(self._run)), about, captured, self._begun, write)
        print(f"update {self._step} is kept: python -m rlhf replay {folder}", flush=True)

    def close(self) -> None:
        """Take away what was kept of a round that did not end."""
        if self._engine.rank == 0:
            self._begun.unlink(missing_ok=True)

    def missed(self, done: int) -> str:
        """What to say of a run that ended after ``done`` rounds before the one that was wanted; empty if it did not."""
        if self._step is None or done >= self._step:
            return ""
        return f"{self._identity.stage}.capture_step={self._step}: the run ended after {done} updates, so none was kept"


def wanted(run: Run, stage: str) -> int | None:
    """The update of ``stage`` that is to be kept, from 1; None: none."""
    config = getattr(run, stage)
    return config.capture_step if isinstance(config, PolicyGradientConfig) else None
