"""From what a person writes to the runs that are compared: folders, studies, trials, W&B runs, published curves."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlhf.compare import others, wandb_run
from rlhf.compare.seeds import means, on_common_seeds, was_hopeless
from rlhf.compare.subject import Subject, of_folder
from rlhf.constraint import Constraint, dominates
from rlhf.fault import Fault
from rlhf.report.folder import read
from rlhf.result import OBJECTIVES, Objective, Result, Status
from rlhf.runs import CONFIG, folder_of, run_of, usual

MOST = 8
"""Settings of a study that are compared unless a number is asked for."""
TRIALS = "trials"
OF_THE_STUDY = ("sweep", "paths", "tracker", "fresh", "stage", "seed")
"""Parts of a trial's overrides that are no setting of it."""

PUBLISHED, WANDB = "published:", "wandb:"


@dataclass(frozen=True)
class Trial:
    """One run of a study."""

    folder: Path
    settings: Mapping[str, str]
    """Key and value of each override, without the seed and what belongs to the study."""
    seed: str
    result: Result

    def run(self, study: Path) -> Path:
        """The folder of its run, also where `outputs` was moved; the trial's own where it has none."""
        return run_of(self.result, study) or self.folder


def subjects(words: Sequence[str], best: int | None) -> tuple[list[Subject], list[str]]:
    """The runs that ``words`` mean, the first of them the base line, and what was left out.

    Raises:
        Fault: one of them means nothing, or there are fewer than two in all.
    """
    notes: list[str] = []
    own: dict[str, list[Subject]] = {}
    for word in words:
        if word in own:
            raise Fault(f"{word}: is named twice; name it once, and another run beside it")
        if (study := _study(word)) is not None:
            own[word], left = _chosen(study, best)
            notes += left
        elif (study := _study_around(Path(word))) is not None:
            own[word] = _of_number(study, Path(word))
        elif not word.startswith(PUBLISHED):
            own[word] = [_run(word)]
    runs = [each for word in words for each in own.get(word, ())]
    found: list[Subject] = []
    for word in words:
        found += own.get(word) or [others.published(word.removeprefix(PUBLISHED), runs)]
    places = [os.path.realpath(each.source) for each in found]
    if twice := [each for at, each in enumerate(found) if places[at] in places[:at]]:
        raise Fault(f"{twice[0].source}: is named twice; name it once, and another run beside it")
    if len(found) < 2:
        only = f" ({found[0].name} alone was found)" if found else ""
        raise Fault(f"compare: takes two runs or more{only}; write python -m rlhf compare outputs/runs/A outputs/runs/B")
    return found, notes


def _run(word: str) -> Subject:
    """A run of W&B or of `outputs/runs`."""
    if word.startswith(WANDB):
        return wandb_run.online(word.removeprefix(WANDB))
    path = Path(word)
    if (offline := wandb_run.file_in(path)) is not None:
        return wandb_run.offline(offline)
    return of_folder(read(folder_of(word)))


def _study(word: str) -> Path | None:
    """The folder of the study that ``word`` means, if it means one."""
    for folder in (Path(word), usual().parent / "studies" / word):
        if (folder / TRIALS).is_dir():
            return folder.resolve()
    return None


def _study_around(path: Path) -> Path | None:
    """The study whose trial ``path`` is, or one of whose seeds."""
    above = [path.resolve(), *path.resolve().parents][1:3] if path.is_dir() else []
    return next((each.parent for each in above if each.name == TRIALS), None)


def _of_number(study: Path, path: Path) -> list[Subject]:
    """The runs of one trial."""
    every = list(_trials(study))
    found = [trial for trial in every if path.resolve() in (trial.folder, trial.folder.parent)]
    if not found:
        raise Fault(f"{path}: this trial has no {CONFIG} and result.json yet; wait for its end, or name another one")
    return [_of_trial(study, trial, _varied(every)) for trial in found]


def _trials(study: Path) -> Iterator[Trial]:
    """The trials that have ended."""
    ends = [*(study / TRIALS).glob("*/result.json"), *(study / TRIALS).glob("*/*/result.json")]
    of_seeds = {path.parent.parent for path in ends}  # that of a trial under several seeds is their mean
    for path in sorted(path for path in ends if path.parent not in of_seeds):
        result, overrides = Result.read(path), path.with_name("overrides.txt")
        if result is not None and path.with_name(CONFIG).is_file():
            pairs = [line.partition("=") for line in overrides.read_text().splitlines()] if overrides.is_file() else []
            settings = {key: value for key, _, value in pairs}
            kept = {key: value for key, value in settings.items() if key.replace("/", ".").split(".")[0] not in OF_THE_STUDY}
            yield Trial(path.parent, kept, settings.get("seed", str(result.seed)), result)


def _today(study: Path) -> Iterator[Trial]:
    """Those in its `study.json`, where there is one: what else lies there is of a record that was moved away."""
    try:
        names = {f"{each['number']:04d}" for each in _book(study)["trials"]}
    except (ValueError, KeyError, TypeError):
        names = {each.name for each in (study / TRIALS).iterdir()}
    return (trial for trial in _trials(study) if trial.folder.relative_to(study / TRIALS).parts[0] in names)


def _chosen(study: Path, best: int | None) -> tuple[list[Subject], list[str]]:
    """The finished runs of a study in the order of their numbers, or those of its best settings, with all their seeds."""
    ended = [trial for trial in _today(study) if trial.result.status is Status.finished]
    trials = list({trial.run(study): trial for trial in reversed(ended)}.values())[::-1]  # a trial can reuse another's run
    if not trials:
        raise Fault(f"{study}: no trial of this study has finished; see python -m rlhf study {os.path.relpath(study)}")
    swept = _varied(trials)
    by_setting: dict[tuple[tuple[str, str], ...], list[Trial]] = {}
    for trial in trials:
        by_setting.setdefault(tuple(sorted(trial.settings.items())), []).append(trial)
    settings = list(by_setting.values())
    count = MOST if best is None else best
    if best is not None or len(settings) > count:
        settings = _best_first(study, settings)[:count]
    left = len(by_setting) - len(settings)
    told = f"{study.name}: the best {len(settings)} of {len(by_setting)} settings; --best N takes another number"
    return [_of_trial(study, trial, swept) for each in settings for trial in each], [told] if left else []


def _varied(trials: Sequence[Trial]) -> frozenset[str]:
    keys = {key for trial in trials for key in trial.settings}
    varied = {key for key in keys if len({trial.settings.get(key) for trial in trials}) > 1}
    return frozenset(varied | ({"seed"} if len({trial.seed for trial in trials}) > 1 else set()))


def _best_first(study: Path, settings: list[list[Trial]]) -> list[list[Trial]]:
    """By what the study is after: what keeps its constraints, those last that got fewer seeds since they were surely worse;
    among these what nothing beats, then by the first objective."""
    objectives, constraints = _goal(study, settings[0][0].result.stage)
    joint = [Result.read(trials[0].folder.parent / "result.json") for trials in settings]  # as the study put its seeds together
    runs = [{trial.result.seed: _measured(trial.result) for trial in trials} for trials in settings]
    own = [means([*each.values()]) if whole is None else _measured(whole) for each, whole in zip(runs, joint, strict=True)]
    kept = [all((excess := each.excess(found)) is not None and excess <= 0 for each in constraints) for found in own]
    compared = [keeps and not (whole and was_hopeless(whole)) for keeps, whole in zip(kept, joint, strict=True)]
    among = [at for at, each in enumerate(compared) if each]
    ranked_by = dict(enumerate(own)) | dict(zip(among, on_common_seeds([(own[at], runs[at]) for at in among]), strict=True))
    points = [
        tuple(_turned(ranked_by[at].get(each.metric, math.nan), each) for each in objectives) for at in range(len(settings))
    ]

    def badness(at: int) -> tuple[bool, bool, bool, tuple[float, ...]]:
        return not kept[at], not compared[at], any(dominates(points[other], points[at]) for other in among), points[at]

    return [settings[at] for at in sorted(range(len(settings)), key=badness)]


def _goal(study: Path, stage: str) -> tuple[list[Objective], list[Constraint]]:
    """Objectives and constraints of a study, from its `study.json`; without one that can be read those of its stage."""
    book = _book(study)
    try:
        return [Objective(**each) for each in book["objectives"]], [Constraint.parse(each) for each in book["constraints"]]
    except (ValueError, KeyError, TypeError, Fault):
        return [OBJECTIVES[stage]] if stage in OBJECTIVES else [], []


def _book(study: Path) -> dict[str, Any]:
    """The `study.json` of a study; empty without one that can be read."""
    try:
        content = json.loads((study / "study.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _measured(result: Result) -> dict[str, float]:
    return {**result.took(), **result.metrics}


def _turned(value: float, objective: Objective) -> float:
    """The smaller the better; what was not measured comes last."""
    return math.inf if not math.isfinite(value) else value if objective.direction == "minimize" else -value


def _of_trial(study: Path, trial: Trial, swept: frozenset[str]) -> Subject:
    """The run of a trial, or what the trial's own folder knows of it."""
    name = f"{study.name}/{trial.folder.relative_to(study / TRIALS)}"
    return replace(of_folder(read(trial.run(study))), name=name, study=str(study), swept=swept)
