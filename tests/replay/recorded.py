"""Runs of untrained networks that kept an update, and what the verb says of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlhf import checks, loop
from rlhf.engine.torch_engine import TorchEngine
from rlhf.identity import Identity
from rlhf.invariants.starts import starts
from rlhf.invariants.updates import build
from rlhf.replay import command
from rlhf.replay.capture import Capture
from tests.silent import Silent
from tests.stages import small


def record(folder: Path, stage: str, update: int, *texts: str) -> Path:
    """``folder``, with what a run of ``stage`` leaves there that kept ``update``; what it started from is gone."""
    run = small.make_run(folder, f"stage={stage}", *texts, f"{stage}.capture_step={update}")
    assert checks.faults(run) == []
    OmegaConf.save(OmegaConf.structured(run), folder / "config.yaml")
    engine = TorchEngine(run.device, run.precision, run.deterministic)
    learner = build(run, engine, starts(run, folder / "starts")[0])
    identity = Identity(stage, "", "", {}, folder, "")
    loop.train(learner, engine, Silent(), run.seed, recorder=Capture(run, identity, learner, engine))
    shutil.rmtree(folder / "starts")
    return folder


def replayed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what the verb says as JSON."""
    capsys.readouterr()
    code = command.main([str(folder), *words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code < 2 else {"fault": said.err}
