"""What a person is told at the end of a chain: a table of its stages, and where to look."""

import json
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from rlhf import after, provenance
from rlhf.config import Run, TrackerKind
from rlhf.lineage import JUDGED, ONLINE
from rlhf.report import page as report
from rlhf.report import sources
from rlhf.result import HEADLINES, Result, Status
from rlhf.runs import CONFIG
from rlhf.stages.table import TABLE
from rlhf.tracking.record import KEPT
from rlhf.tracking.screen import warn
from rlhf.visible import visible
from rlhf.watcher import CHECKPOINTS


@dataclass(frozen=True)
class Ended:
    """A stage of a chain that has come to its end, or had before."""

    name: str
    """What it is to the stage that starts from it (``lineage.parents``)."""
    result: Result
    reused: bool


def table(stages: list[Ended]) -> None:
    """Print a row for each of ``stages``, and what they said."""
    rows = Table("stage", "status", "time", "cost", "result")
    for each in stages:
        result = each.result
        status = "reused" if each.reused else result.status.name + (f" ({result.reason})" if result.reason else "")
        cost = "unknown" if result.cost_usd is None else f"${result.cost_usd:.2f}"
        shown = [_figure(name, result.metrics) for name in HEADLINES[result.stage] if name in result.metrics]
        shown += sources.lines(result.metrics)
        rows.add_row(each.name, status, f"{result.seconds:.0f} s", cost, "\n".join(shown))
    Console().print(rows)
    for each in stages:
        if each.result.status is Status.finished and each.result.message:
            print(f"stage={each.name}: {each.result.message}")


def end(last: Ended, run: Run) -> None:
    """Print what the ``last`` stage of ``run`` left, and what can be done next."""
    result = last.result
    if last.reused:
        _warn_of_other_tracker(result, run)
    if result.status is Status.finished:
        if result.stage in (*ONLINE, *JUDGED):
            _print_examples(result)
        print(f"The model is in {result.artifact}; every number is in {result.folder}/metrics.jsonl.")
        if TABLE[result.stage].keeps_rows:
            print(f"The responses that were kept are in {result.folder}/{KEPT}.")
        print(f"Look at it: {result.folder}/{report.NAME}")
        print("Next: talk to it, or change something (rlhf --help lists what), or compare several values in a study:")
        for command in after.commands(run, result, provenance.overrides()):
            print(f"  {command}")
    elif result.status is Status.stopped:
        same = "The same command without fresh=true" if run.fresh else "The same command"
        saved = any((Path(result.folder) / CHECKPOINTS).glob("*"))
        print(f"{result.message}. {same} {'goes on from there' if saved else 'begins this stage again'}.")
    else:
        warn(f"stage={last.name} {result.status.name} ({result.reason}): {result.message}")


def _figure(name: str, metrics: dict[str, float]) -> str:
    text = f"{name} {metrics[name]:.3f}"
    if f"{name}_low" in metrics:
        text += f"  [{metrics[f'{name}_low']:.3f}, {metrics[f'{name}_high']:.3f}]"
    return text


def _print_examples(result: Result, count: int = 2) -> None:
    """Held-out prompts with the answers before and after the stage."""
    start = next((name for name in ("sft", "pretrain") if name in result.parents), "start")
    with (Path(result.folder) / "samples.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows[-count:]:  # of the weights that were kept, which are written last
        texts = (("prompt", "prompt"), (start, "sft_response"), (result.stage, "response"))
        width = max(len(name) for name, _ in texts)
        print("".join(f"  {name:<{width}}  {visible(row[key])}\n" for name, key in texts))


def _warn_of_other_tracker(result: Result, run: Run) -> None:
    """A run that is reused is not logged again, wherever it is to be logged now."""
    saved, wanted = Path(result.folder) / CONFIG, run.tracker.kind
    if wanted is not TrackerKind.none and saved.is_file() and OmegaConf.load(saved).tracker.kind != wanted.name:
        warn(f"tracker={wanted.name}: has no effect, since the run was finished before; fresh=true runs it again")
