"""Weights & Biases as a sink that can never hold up a run: everything happens on a thread of its own.

Without a login (no key in the environment, none stored) the run is kept offline in its own folder, to be sent later with
`python -m rlhf sync`. If wandb fails or hangs, the run says so once and goes on; its record is complete either way.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlhf.config import TrackerArtifacts, TrackerConfig
from rlhf.report.curves import number
from rlhf.report.folder import rows
from rlhf.result import Result
from rlhf.sealed import MANIFEST, write_atomically
from rlhf.tracking.about import About, Node
from rlhf.tracking.tracker import apart

METRICS = "metrics.jsonl"
ID = "wandb_id"
"""File in the run's folder with the id under which W&B knows it."""
AXES = {"*": "progress/samples", "perf/*": "progress/tokens", "time/*": "progress/tokens", "mem/*": "progress/tokens"}
"""What each metric is drawn over."""


class WandbTracker:
    """Queues every call; a daemon thread makes them."""

    def __init__(self, config: TrackerConfig, about: About) -> None:
        self._patience = config.finish_seconds
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()
        for step, row, held_out in _recorded(about):
            self.log(step, row, held_out)
        self._thread = threading.Thread(target=self._work, args=(config, about), name="wandb", daemon=True)
        self._thread.start()

    def log(self, step: int, row: Mapping[str, float], held_out: bool) -> None:
        """Queue a row of metrics."""
        self._queue.put(("log", (step, apart(row, held_out))))

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Queue a table of answers."""
        self._queue.put(("table", (step, [dict(row) for row in rows])))

    def alert(self, step: int, name: str, text: str) -> None:
        """Queue an alert."""
        self._queue.put(("alert", (step, name, text)))

    def finish(self, result: Result) -> None:
        """Queue the end, and wait a bounded time for the thread."""
        self._queue.put(("finish", (result,)))
        self._thread.join(self._patience)
        if self._thread.is_alive():
            print(f"wandb did not finish within {self._patience:.0f} s; the local record is complete")

    def _work(self, config: TrackerConfig, about: About) -> None:
        try:
            self._serve(config, about)
        except Exception as error:  # the one place where anything may go wrong: a sink must not end a run
            print(f"wandb is off for this run ({type(error).__name__}: {error}); the local record is complete")

    def _serve(self, config: TrackerConfig, about: About) -> None:
        import wandb  # here and only here, and not on the main thread: importing it takes seconds

        run = _begin(wandb, config, about)
        lineage = config.artifacts is not TrackerArtifacts.none
        for node in about.inputs if lineage else ():
            _use(wandb, run, node)
        axes: dict[str, float] = {}
        while True:
            call, arguments = self._queue.get()
            if call != "finish" and arguments[0] < run.starting_step:
                continue  # it is there
            if call == "log":
                step, row = arguments
                axes |= {"progress/round": step, "progress/samples": step * about.samples_a_round}
                axes |= {name: value for name, value in row.items() if name == "progress/tokens"}  # training rows know them
                run.log({**row, **axes}, step=step)
            elif call == "table":
                step, rows = arguments
                columns = ["round", *rows[0]]
                data = [[step, *(row.get(column) for column in columns[1:])] for row in rows]
                run.log({"samples": wandb.Table(columns=columns, data=data)}, step=step)
            elif call == "alert":
                step, name, text = arguments
                run.alert(title=f"doctor: {name}", text=text, level="WARN")
                run.summary[f"doctor/{name}"] = step  # the round it was found in: a column of the table of runs
            else:
                (result,) = arguments
                run.log({}, commit=True)  # else the last row comes behind the summary, and hides it
                run.summary.update({**result.metrics, **_ended(result)})
                if result.artifact is not None and lineage:
                    _save_output(wandb, run, about.output, result, config.artifacts is TrackerArtifacts.upload)
                run.finish(exit_code=result.exit_code)
                return


def open_run(wandb: Any, folder: Path, **what: Any) -> Any:
    """A run of W&B, begun or gone on with, online where somebody is logged in; its files are in ``folder``."""
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
    settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
    return wandb.init(mode=mode, dir=str(folder), resume="allow", settings=settings, **what)


def _begin(wandb: Any, config: TrackerConfig, about: About) -> Any:
    run = open_run(
        wandb,
        about.folder,
        project=config.project,
        group=config.group,
        id=_id(about),
        name=about.name,
        job_type=about.stage,
        tags=[*about.tags, *config.tags],
        config=about.config,
    )
    for axis in ("progress/samples", "progress/tokens", "progress/round"):
        run.define_metric(axis)
    for names, axis in AXES.items():
        run.define_metric(names, step_metric=axis)
    return run


def _id(about: About) -> str:
    """The run's id, the same in every session; begun anew with `fresh=true` it is another run to W&B."""
    path = about.folder / ID
    if path.exists() and not (about.fresh and about.first_round == 0):
        return path.read_text()
    name = about.signature.replace(".", "_") + (f"-{int(time.time())}" if path.exists() else "")
    write_atomically(path, name)
    return name


def _recorded(about: About) -> Iterator[tuple[int, dict[str, float], bool]]:
    """The rows of a run that goes on, up to its checkpoint: a session that was killed has not told W&B all of its last ones."""
    path = about.folder / METRICS
    for row in rows(path) if about.first_round and path.is_file() else ():
        if row["round"] <= about.first_round:
            metrics = {name: number(value) for name, value in row.items() if name not in ("round", "kind", "seconds")}
            yield row["round"], metrics, row["kind"] == "eval"


def _artifact(wandb: Any, node: Node, **about: Any) -> Any:
    """The node's place in the lineage: equal content is the same version, whoever logs it."""
    artifact = wandb.Artifact(node.name, type=node.kind, metadata=about)
    with artifact.new_file("identity.json") as file:
        file.write(json.dumps(node.content, sort_keys=True))
    return artifact


def _use(wandb: Any, run: Any, node: Node) -> None:
    """Say that the run stands on ``node``.

    ``run.use_artifact`` refuses to note this offline and waits for the server online; what it calls does neither.
    """
    run._log_artifact(_artifact(wandb, node), is_user_created=True, use_after_commit=True)


def _save_output(wandb: Any, run: Any, node: Node, result: Result, upload: bool) -> None:
    """The model's place in the lineage with where it is kept, and its files too where that is wanted."""
    assert result.artifact is not None
    folder = Path(result.artifact)
    digests = json.loads((folder / MANIFEST).read_text())["files"]
    run.log_artifact(_artifact(wandb, node, path=str(folder.resolve()), files=digests, metrics=result.metrics))
    if upload:
        weights = wandb.Artifact(f"{node.name}-weights", type="weights", metadata={"of": node.name})
        weights.add_dir(str(folder))
        run.log_artifact(weights)


def _ended(result: Result) -> dict[str, Any]:
    kept = ("reason", "message", "seconds", "cost_usd", "peak_memory_gib", "commit")
    return {"status": result.status.name, **result.took(), **{f"run/{name}": asdict(result)[name] for name in kept}}
