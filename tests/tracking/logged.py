"""A small run as a tracker is told of it, and what wandb has in its file."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf.config import TrackerArtifacts, TrackerConfig, TrackerKind
from rlhf.result import Result, Status
from rlhf.tracking.about import About, Node
from rlhf.tracking.wandb_tracker import WandbTracker

CONFIG = TrackerConfig(
    kind=TrackerKind.wandb,
    project="test",
    group="a-study",
    tags=["extra"],
    artifacts=TrackerArtifacts.reference,
    finish_seconds=60.0,
    trial=None,
    swept={},
)
SFT = Node("sft-89abcdef", "model", {"stage": "sft", "result_signature": "89abcdef"})


def tracked(told: About, config: TrackerConfig = CONFIG) -> None:
    """Two rounds, with an evaluation before the first and after the last."""
    tracker, first = WandbTracker(config, told), told.first_round
    if first == 0:
        tracker.log(0, {"eval/kl": 0.0, "response/length_mean": 4.0}, held_out=True)
        tracker.table(0, [{"prompt": "a", "response": "b", "score": 0.5}])
    for step in (first + 1, first + 2):
        row = {"loss": 1.0 / step, "response/length_mean": 3.0, "progress/tokens": 100.0 * step, "time/train_s": 1.0}
        tracker.log(step, row, held_out=False)
    tracker.log(first + 2, {"eval/kl": 0.5, "response/length_mean": 5.0}, held_out=True)
    tracker.alert(first + 2, f"late-{first}", "something is off")
    ended = Result(Status.finished, "ppo", "tiny", "0123", "4567", metrics={"reward/gain": 0.25, "response/length_mean": 5.0})
    tracker.finish(replace(ended, seconds=12.5, peak_memory_gib=1.5, artifact=str(told.folder / "artifact")))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wandb"), key=lambda file: file.stat().st_mtime_ns)


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind, as wandb's own reader tells them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    inspect = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in inspect.stdout.splitlines()]
    return [row[kind] for row in rows if row["type"] == kind]


def history(file: Path) -> list[dict[str, Any]]:
    return [row["item"] for row in records(file, "history")]
