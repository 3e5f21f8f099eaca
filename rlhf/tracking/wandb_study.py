"""A study as a run of Weights & Biases: its tables, its best trial, and how that came about."""

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.config import TrackerConfig
from rlhf.sealed import write_atomically
from rlhf.tracking.about import OfStudy
from rlhf.tracking.wandb_tracker import open_run

TOLD = "wandb_told.json"
"""File in the study's folder with what W&B was told last, as ``Told``."""
JOB = "study"
"""What W&B calls a job type."""


@dataclass(frozen=True)
class Told:
    """What must be known of a study to find it on W&B."""

    project: str
    group: str
    name: str
    stage: str
    goal: str
    metrics: list[str]
    """Its objectives."""
    swept: list[str]
    """What is varied, by the names in the configuration of its trials."""
    tables: list[str]
    digest: str
    """Of all."""

    @classmethod
    def of(cls, config: TrackerConfig, told: OfStudy) -> "Told":
        """What is told now."""
        names = sorted(told.tables)
        return cls(config.project, told.group, told.name, told.stage, told.goal, told.metrics, told.swept, names, told.digest)

    @classmethod
    def read(cls, folder: Path) -> "Told | None":
        """What was told of the study in ``folder``; None if nothing was."""
        try:
            return cls(**json.loads((folder / TOLD).read_text()))
        except (OSError, ValueError, TypeError):
            return None


def show(config: TrackerConfig, told: OfStudy) -> None:
    """Tell W&B what is new; waits a bounded time, and no failure goes further than a line."""
    if Told.read(told.folder) == Told.of(config, told):
        return
    thread = threading.Thread(target=_work, args=(config, told), name="wandb", daemon=True)
    thread.start()
    thread.join(config.finish_seconds)
    if thread.is_alive():
        print(f"wandb did not finish within {config.finish_seconds:.0f} s; the study's own files are complete")


def _work(config: TrackerConfig, told: OfStudy) -> None:
    try:
        is_offline = _tell(config, told)
        write_atomically(told.folder / TOLD, json.dumps(asdict(Told.of(config, told))) + "\n")
        if is_offline:
            print(f"kept offline for W&B; send the study: python -m rlhf sync {told.folder}")
    except Exception as error:  # the one place where anything may go wrong: a window must not end a study
        print(f"wandb does not show this study ({type(error).__name__}: {error}); its own files are complete")


def _tell(config: TrackerConfig, told: OfStudy) -> bool:
    """Tell it all, and return whether that was kept offline."""
    import wandb  # here only, and not on the main thread: importing it takes seconds

    run = open_run(
        wandb,
        told.folder,
        project=config.project,
        group=told.group,
        id=told.id,
        name=told.name,
        job_type=JOB,
        tags=[told.stage, *config.tags],
        config=told.config,
    )
    run.define_metric("trial")
    run.define_metric("*", step_metric="trial")
    for step, row in enumerate(told.rows):
        if step >= run.starting_step:  # else it is there, from an earlier session
            run.log(row, step=step, commit=True)
    for name, rows in told.tables.items():
        columns: list[Any] = list(rows[0])
        data = [list(row.values()) for row in rows]
        run.summary[name] = wandb.Table(columns=columns, data=data, allow_mixed_types=True)
    run.summary.update(told.summary)
    run.finish()
    return bool(run.offline)
