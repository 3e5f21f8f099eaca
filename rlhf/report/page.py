"""``report.html``: one file that shows a run to a person, offline. Every text of a run is escaped; there is no script in it."""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rlhf.calibration import reliability
from rlhf.doctor.examine import examine
from rlhf.fault import Fault
from rlhf.lineage import ONLINE
from rlhf.report import changes, chart, costs, curves, distance, findings, paper, published, sources
from rlhf.report.folder import Row, RunFolder, last_samples, read
from rlhf.result import HEADLINES, Result
from rlhf.runs import folder_of
from rlhf.sealed import write_atomically
from rlhf.visible import visible

NAME = "report.html"
TURNS = {
    "pretrain": ("before", "after pretraining"),
    "sft": ("before", "after SFT"),
    "dpo": ("before", "after DPO"),
    "kto": ("before", "after KTO"),
    "ppo": ("SFT policy", "after PPO"),
    "rloo": ("SFT policy", "after RLOO"),
    "grpo": ("SFT policy", "after GRPO"),
    "best_of_n": ("SFT policy", "after best of n"),
}
"""What the first and the last answers of a stage are called."""


@dataclass(frozen=True)
class Headline:
    """A figure for the top of the page."""

    name: str
    value: str
    start: str
    interval: str
    drawing: Markup


@dataclass(frozen=True)
class Answer:
    """One text beside another, with its scores by name."""

    text: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Exchange:
    """A prompt with the answers that are compared."""

    prompt: str
    answers: list[Answer]
    """Two; one where there was a single evaluation."""


@dataclass(frozen=True)
class Ancestor:
    """A run of the chain, with the address of its own report where it lies beside this one."""

    stage: str
    signature: str
    address: str
    result: Result | None


def write(folder: Path) -> Path:
    """Write the report of the run in ``folder`` and return its path.

    Raises:
        Fault: ``folder`` is not a run's.
    """
    run = read(folder)
    path = folder / NAME
    write_atomically(path, environment(Path(__file__).parent).get_template("page.html").render(contents(run)))
    return path


def environment(folder: Path) -> Environment:
    """Templates of ``folder`` and the style of this one; whatever they print is made visible and escaped."""
    made = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters |= {"short": paper.short, "clock": clock}
    return made


def write_or_warn(folder: Path) -> None:
    """As ``write``, at the end of a run: whatever goes wrong with the report, the run has ended as it has."""
    try:
        write(folder)
    except Exception as error:
        print(f"no report.html ({type(error).__name__}: {error}); the record is complete", file=sys.stderr, flush=True)


def contents(run: RunFolder) -> dict[str, Any]:
    """Everything the template shows."""
    altered, complaint = _changes(run)
    problems, theirs = list(findings.problems(run)), published.of(run)
    return {
        "run": run,
        "online": ONLINE,
        "result": run.result,
        "device": run.environment.get("device", ""),
        "problems": problems,
        "remarks": [] if problems else [str(finding) for finding in examine(run)],
        "headlines": list(_headlines(run)),
        "ancestors": list(_ancestors(run)),
        "distance": list(distance.figures(run.metrics)),
        "sections": curves.sections(run.metrics, theirs.curves),
        "published": theirs,
        "distributions": list(_distributions(run)),
        "labels": ("chosen", "rejected") if "chosen" in (run.samples or [{}])[0] else TURNS.get(run.stage, ("before", "after")),
        "calibration": _calibration(run),
        "sources": list(sources.sources(run.result.metrics if run.result else {})),
        "exchanges": list(_exchanges(run.samples)),
        "phases": costs.phases(run.metrics, run.result.seconds if run.result else None),
        "changes": altered,
        "complaint": complaint,
        "command": "python -m rlhf " + shlex.join(run.overrides) if run.overrides else "",
        "metrics": sorted((run.result.metrics if run.result else {}).items()),
    }


def _finalize(value: Any) -> Any:
    """Applied to whatever the template prints, before it is escaped."""
    if isinstance(value, Markup):
        return Markup(visible(value))
    return visible(value) if isinstance(value, str) else value


def clock(seconds: float) -> str:
    """A duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _headlines(run: RunFolder) -> Iterator[Headline]:
    metrics = run.result.metrics if run.result else {}
    held_out = [row for row in run.metrics if row["kind"] == "eval"]
    first = held_out[0] if len(held_out) > 1 else {}
    for name in HEADLINES.get(run.stage, ()):
        if name in metrics:
            low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            whole = low is not None and high is not None and all(map(math.isfinite, (low, metrics[name], high)))
            yield Headline(
                name=name,
                value=paper.short(metrics[name]),
                start=paper.short(curves.number(first[name])) if first.get(name) else "",  # from 0 goes without saying
                interval=f"{paper.short(low)} to {paper.short(high)}" if whole else "",  # type: ignore[arg-type]
                drawing=chart.interval(low, metrics[name], high) if whole else Markup(""),  # type: ignore[arg-type]
            )


def _ancestors(run: RunFolder) -> Iterator[Ancestor]:
    """The parents in the order of the chain; their reports lie in the folders beside this one."""
    wanted = run.result.parents if run.result else {}
    if not wanted:
        return
    beside = {}
    for path in sorted(run.path.resolve().parent.glob("*/result.json")):
        found = Result.read(path)
        if found is not None:
            beside[found.result_signature] = (path.parent.name, found)
    for stage, signature in wanted.items():
        name, result = beside.get(signature, ("", None))
        yield Ancestor(stage, signature, f"../{name}/{NAME}" if name else "", result)


def _distributions(run: RunFolder) -> Iterator[tuple[str, str, Markup, list[tuple[str, float, int]]]]:
    """Title, remark, drawing and (name, mean, colour): before against after, or chosen against rejected."""
    rounds = sorted(run.scores)
    if not rounds:
        return
    first, last = run.scores[rounds[0]], run.scores[rounds[-1]]
    if "chosen" in last:
        pairs = {
            f"pairs, round {at}": [("chosen", run.scores[at]["chosen"]), ("rejected", run.scores[at]["rejected"])]
            for at in dict.fromkeys((rounds[0], rounds[-1]))
        }
    else:
        names = TURNS.get(run.stage, ("before", "after"))
        pairs = {name: [(names[0], first.get(name, [])), (names[1], last[name])] for name in last if name != "tokens"}
    for title, both in pairs.items():
        drawn = [(name, [curves.number(each) for each in values], colour) for colour, (name, values) in enumerate(both)]
        drawn = [(name, [each for each in values if math.isfinite(each)], colour) for name, values, colour in drawn]
        means = [(name, sum(values) / len(values), colour) for name, values, colour in drawn if values]
        yield title, f"{len(both[1][1])} held-out prompts", chart.histogram(drawn), means


def _calibration(run: RunFolder) -> Markup:
    """Predicted against observed preference of the last evaluation's pairs; nothing where there are none."""
    last = run.scores[max(run.scores)] if run.scores else {}
    if "chosen" not in last:
        return Markup("")
    both = zip(last["chosen"], last["rejected"], strict=True)
    margins = [margin for pair in both if math.isfinite(margin := curves.number(pair[0]) - curves.number(pair[1]))]
    observed = [(each.predicted, each.observed) for each in reliability(margins)]
    perfect = chart.Series("as often as predicted", [(0.5, 0.5), (1.0, 1.0)], 0)
    return chart.lines([perfect, chart.Series("observed", observed, 1, dots=True)], whole_x=False) if observed else Markup("")


def _exchanges(samples: Sequence[Row]) -> Iterator[Exchange]:
    """Answers of the last evaluation beside those of the first, or the two sides of each pair."""
    if not samples:
        return
    rounds = {row["round"] for row in samples}
    first = [row for row in samples if row["round"] == min(rounds)]
    for before, after in zip(first, last_samples(samples), strict=False):
        if "chosen" in after:
            answers = [Answer(after[side], {"score": after[f"score_{side}"]}) for side in ("chosen", "rejected")]
        else:
            answers = [
                Answer(row["response"], {name: row[name] for name in ("score", "gold") if name in row})
                for row in (before, after)
            ][: len(rounds)]
        yield Exchange(after["prompt"], answers)


def _changes(run: RunFolder) -> tuple[list[changes.Change], str]:
    try:
        return changes.changes(run.path / "config.yaml", run.overrides, run.stage), ""
    except Exception as error:  # an option that is gone since, a tree that has moved on
        return [], str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def main(arguments: list[str]) -> int:
    """Serve ``python -m rlhf report RUN``."""
    from rlhf.command_line import EXIT_OK, report_faults  # it imports us

    if len(arguments) != 1:
        return report_faults(["report: takes the folder of a run; write python -m rlhf report outputs/runs/<name>"])
    try:
        print(write(folder_of(arguments[0])))
    except Fault as fault:
        return report_faults([str(fault)])
    return EXIT_OK
