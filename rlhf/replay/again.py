"""The update of a capsule, computed again on the CPU by the stage's own code."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from rlhf import loop
from rlhf.config import Device, PolicyGradientConfig, PPOConfig, Run
from rlhf.data.corpus import Corpus
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.replay import capsule, moved
from rlhf.replay.capsule import About
from rlhf.stages.captured import Captured
from rlhf.stages.interface import Replayable, Setting
from rlhf.stages.table import TABLE
from rlhf.watcher import STAGE

NOTHING = Corpus({}, {}, "", None, 1.0, {}, [])
KL_COEF = f"{STAGE}kl_coef"


@dataclass(frozen=True)
class Outcome:
    """What came of an update."""

    metrics: dict[str, float]
    weights: dict[str, str]
    """Digest of each network's trained weights after it."""

    def unlike(self, about: About) -> list[str]:
        """What is not to the bit as recorded: metrics by name, and networks as `weights of <network>`."""
        ours, theirs = self.metrics, about.metrics
        names = [name for name in theirs | ours if repr(ours.get(name)) != repr(theirs.get(name))]  # nan is nan
        return names + [f"weights of {name}" for name in about.weights if self.weights.get(name) != about.weights[name]]


def compute(folder: Path, about: About, recorded: Run, run: Run) -> Outcome:
    """The update of the capsule ``folder`` under ``run``, whose settings may be others than those ``recorded``.

    Raises:
        Fault: the capsule holds too little text for these settings.
        NonFinite: under these settings a loss or a gradient norm is not a finite number.
    """
    was, config = _config(recorded, about), _config(run, about)
    captured = capsule.read_captured(folder, about)
    _refuse_too_little_text(config, captured)
    if about.device == "cpu":
        torch.set_num_threads(about.threads)  # by another number sums are taken in another order
    engine = TorchEngine(Device.cpu, run.precision, run.deterministic)
    parents = capsule.parents(folder, run, about.stage)
    stage = TABLE[about.stage](Setting(run, NOTHING, engine, parents, captured=captured))
    before = load_file(folder / capsule.BEFORE)
    if config.kl_coef != was.kl_coef and KL_COEF in before:  # else it is as it had adapted itself until then
        before[KL_COEF] = torch.tensor(config.kl_coef, dtype=torch.float64)
    engine.load(before, about.steps * _steps(config) // _steps(was))
    stage.restore(_of_stage(before))
    update = about.update - 1
    metrics = loop.learn(stage, engine, cast(Replayable, stage).relearn(update), update)
    after = engine.tensors()
    return Outcome(metrics.values_by_name() | moved.distances(before, after), moved.digests(after))


def _config(run: Run, about: About) -> PolicyGradientConfig:
    config: PolicyGradientConfig = getattr(run, about.stage)
    return config


def _steps(config: PolicyGradientConfig) -> int:
    """Optimizer steps of one update."""
    return config.inner_epochs * config.minibatches


def _of_stage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(STAGE): value for name, value in tensors.items() if name.startswith(STAGE)}


def _refuse_too_little_text(config: PolicyGradientConfig, captured: Captured) -> None:
    if not isinstance(config, PPOConfig) or config.ptx_coef == 0:
        return
    passes = len(captured.texts) // len(captured.rows)
    if not passes:
        raise Fault(f"ppo.ptx_coef={config.ptx_coef}: the run learnt no text, so the capsule holds none; leave it at 0")
    if config.inner_epochs > passes:
        raise Fault(
            f"ppo.inner_epochs={config.inner_epochs}: the capsule holds text of ppo.ptx_coef for {passes} passes; use at most "
            f"{passes}, or ppo.ptx_coef=0"
        )
