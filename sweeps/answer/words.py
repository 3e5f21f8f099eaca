"""What is said of a study in words, on the page and on the terminal alike."""

from collections.abc import Mapping, Sequence

from rlhf.config import SweepMode
from rlhf.report.page import clock
from rlhf.report.paper import short
from sweeps.answer.folder import PARENTS, Study, Trial
from sweeps.answer.prompts import on_prompts
from sweeps.answer.standing import TIMED, Spread, Standing
from sweeps.plan import DOMINATED
from sweeps.record import RUNNING

EVEN = 0.02
"""Part of its half width by which an interval may be to one side of its value and still be written with ±."""
NAMED = 15
"""Names of a list that are written out."""


def head(study: Study, found: Standing) -> str:
    """How far it is, in one line."""
    state = "running" if study.is_running else "complete" if is_complete(study) else "not complete"
    of = f" of {study.about['planned']}" if study.about["planned"] else ""
    counts = ", ".join(f"{count} {status}" for status, count in found.counts)
    took = clock(study.wall_seconds)
    return f"study {study.path.name}, {state}: {ended(study)}{of} trials ended ({counts}); {took}; {study.goal}"


def bill(study: Study) -> str:
    """What is paid for, beside what the runs count as their own."""
    return (
        f"places were taken for {clock(study.taken_seconds)}{dollars(study.taken_usd)}, with imports, loading, saving and "
        f"waiting; the runs' own time, training and evaluation, is {clock(study.seconds)}{dollars(study.usd)}"
    )


def dollars(usd: float | None) -> str:
    """A price behind a time, where it is known."""
    return "" if usd is None else f" (${usd:.2f})"


def is_complete(study: Study) -> bool:
    """Whether all trials that were asked for have ended."""
    open_ones = sum(each.entry.status in (RUNNING, "stopped", "lost") for each in study.trials)
    return not study.is_running and open_ones == 0 and counted(study) >= (study.about["planned"] or 0)


def counted(study: Study) -> int:
    """Trials begun, of a search without those that were settled unrun: they do not count towards its total."""
    runs_all = study.about["mode"] != SweepMode.tune.name
    return sum(runs_all or not each.entry.reason.startswith(DOMINATED) for each in study.trials)


def ended(study: Study) -> int:
    """Those of them that do not run any more."""
    return counted(study) - sum(each.entry.status == RUNNING for each in study.trials)


def none_yet(study: Study) -> str:
    """Why there is no best point."""
    finished = [each for each in study.trials if each.entry.status == "finished"]
    if not finished:
        return "No trial has finished."
    broken = sum(bool(each.broken) for each in finished)
    if broken:
        return f"No trial keeps to {study.goal}: of {len(finished)} that finished, {broken} break a constraint."
    return f"No trial measured what the study is after: {study.goal}."


def likeness(study: Study, found: Standing) -> str:
    """How sure the best point is of its place, and which others might have it."""
    others = [each for each in found.ranked if each.keeps and each is not found.best]
    if len(study.goal.objectives) > 1 or found.best is None or not others:
        return ""
    if len(found.best.seeds) > 1:
        if found.alike:
            return f"Not distinguishable from it on these seeds: {numbers(found.alike)}."
        return "All others are distinguishable from it on these seeds."
    judged = on_prompts(found.best, others, study.goal.objectives[0].metric)
    if judged.compared == 0:
        return "One run a point: how far chance alone sets two of them apart is not known; sweep.seeds=3 tells."
    near = f"the next {judged.compared}" if judged.compared > 1 else "the next one"
    if judged.alike:
        said = f"Not distinguishable from it on the held-out prompts, of {near}: {numbers(judged.alike)}."
    else:
        said = f"Distinguishable on the held-out prompts from {near}."
    return f"{said} What another seed would change is not known; sweep.seeds=3 tells."


def of_before(study: Study, found: Standing) -> str:
    """Which trials' times were measured before the study, and so decide nothing, or what they did decide."""
    timed = any(each.metric in TIMED for each in study.goal.objectives)
    reused = [each for each in study.trials if each.is_reused]
    if not reused:
        return ""
    told = f"Runs of {numbers(reused)} were finished before this study: their times, speeds and prices are those of then"
    if timed and found.best is not None:
        return (
            f"{told}, and what it is after is such a figure: fresh=true and another sweep.name measure them beside the others."
        )
    return f"{told}{', and count for none of fastest and cheapest' if study.about['mode'] == 'characterize' else ''}."


def ends(value: float, spread: Spread) -> str:
    """An interval behind its value: `± 0.03` where it is as far to both sides."""
    half = (spread.high - spread.low) / 2
    if abs(spread.low + half - value) <= EVEN * half:
        return f"± {short(float(f'{half:.2g}'))}"
    return f"{short(spread.low)} to {short(spread.high)}"


def heading(study: Study, titles: Mapping[str, str], name: str) -> str:
    """The heading of a cost; what a run of a trial under several seeds took on average says so."""
    mean = name in ("time/seconds", "cost/usd") and len(study.about["seeds"]) > 1
    return f"{titles[name]} a seed" if mean else titles[name]


def doing(trial: Trial, study: Study) -> str:
    """How far a running trial is, and what the objective was at its last evaluation."""
    if trial.entry.status != RUNNING:
        return ""
    seeds = len(study.about["seeds"])
    which = f"seed {len(trial.seeds) + 1} of {seeds}: " if seeds > 1 else ""
    track = trial.tracks[-1] if len(trial.tracks) > len(trial.seeds) else None
    if track is None:
        return f"{which}starting, or waiting for a parent"
    of = f" of {track.planned}" if track.planned else ""
    metric = study.goal.objectives[0].metric
    latest = track.curve[-1].values.get(metric) if track.curve else None
    return f"{which}round {track.rounds}{of}" + (f", {metric} {latest:.4g}" if latest is not None else "")


def numbers(trials: Sequence[Trial]) -> str:
    """The numbers of trials."""
    return names([f"{each.number:04d}" for each in trials])


def parents_at_work(study: Study) -> list[str]:
    """Runs that trials stand on and that have not ended."""
    stays = study.stays if study.is_running else ()
    return [each.folder.removeprefix(PARENTS) for each in stays if each.folder.startswith(PARENTS) and each.ended is None]


def names(those: Sequence[str]) -> str:
    """The first of them."""
    return ", ".join(those[:NAMED]) + (f" and {len(those) - NAMED} more" if len(those) > NAMED else "")
