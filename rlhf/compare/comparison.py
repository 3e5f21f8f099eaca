"""All that ``compare`` has to say of some runs, and its JSON."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.compare import answers, axes, comparable, confounding, differences, measures
from rlhf.compare.answers import Exchange
from rlhf.compare.axes import Equal
from rlhf.compare.confounding import Verdict
from rlhf.compare.differences import Difference
from rlhf.compare.groups import Group, fold
from rlhf.compare.measures import Measure
from rlhf.compare.subject import Subject

FORMAT = 1
"""Of the JSON; raised when a name in it changes its meaning."""


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the first of them the base line, and what sets them apart."""

    groups: Sequence[Group]
    settings: Sequence[Difference]
    facts: Sequence[Difference]
    verdict: Verdict
    remarks: Sequence[str]
    """Sentences that a reader must not miss."""
    measures: Sequence[Measure]
    equals: Sequence[Equal]
    kl: str
    """Name of the KL of the comparison at equal KL; empty without one."""
    exchanges: Sequence[Exchange]


def compare(subjects: Sequence[Subject], notes: Sequence[str] = (), about: Sequence[str] = ()) -> Comparison:
    """Compare ``subjects``; ``notes`` are told with the remarks, ``about`` are the keys that were meant to differ.

    Raises:
        Fault: a key of ``about`` does not differ.
    """
    groups = fold(subjects)
    settings, facts = differences.of_settings(groups), differences.of_facts(groups)
    verdict = confounding.judge(groups, settings, facts, about)
    return Comparison(
        groups=groups,
        settings=settings,
        facts=facts,
        verdict=verdict,
        remarks=[*notes, *_remarks(groups, settings, facts, verdict)],
        measures=measures.measures(groups),
        equals=axes.equals(groups, axes.metrics_of(groups)),
        kl=axes.kl_of(groups)[0],
        exchanges=answers.exchanges(groups),
    )


def _remarks(
    groups: Sequence[Group], settings: Sequence[Difference], facts: Sequence[Difference], verdict: Verdict
) -> Iterator[str]:
    stages = list(dict.fromkeys(each.first.stage for each in groups))
    if len(stages) > 1:
        shared = sorted(set.intersection(*(each.metrics for each in groups)))
        names = ", ".join(name for name in shared if not name.startswith("run/")) or "none"
        yield f"They are runs of different stages ({', '.join(stages)}), which share these metrics: {names}."
    told: dict[str, list[str]] = {}
    for other in groups[1:] if len(stages) == 1 else ():
        for _, sentence in comparable.remarks(groups[0], other):
            told.setdefault(sentence, []).append(other.letter)
    for sentence, letters in told.items():
        yield f"{groups[0].letter} and {', '.join(letters)} {sentence}."
    if len(stages) == 1 and confounding.is_seed_alone(verdict):
        yield "The seed alone differs, so every difference here is what chance does; it is the scale for all others."
    elif len({tuple(each.seeds) for each in groups if each.seeds}) > 1:
        yield "Their seeds are not the same, so a part of every difference is chance between seeds."
    slow = [each.key for each in [*settings, *facts] if each.affects == "system" and not differences.is_package(each)]
    if slow:
        yield f"Speed, memory and cost also hang on {', '.join(slow[:6])}{' and more' if len(slow) > 6 else ''}."
    for group in groups:
        for run in group.members:
            if run.status not in ("finished", "published"):
                yield f"{run.name} has not finished ({run.status or 'unknown'}): its figures are its latest."
            if run.status == "published":
                yield f"{run.name}: {run.facts['remark']} Source: {run.facts['source']}."


def content(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data, as docs/compare.md describes it; what is not finite or not known is null."""
    letters = [each.letter for each in found.groups]

    def by_group(values: Sequence[Any]) -> dict[str, Any]:
        return {letter: _plain(value) for letter, value in zip(letters, values, strict=True)}

    def told(each: Difference) -> dict[str, Any]:
        return {"key": each.key, "affects": each.affects, "values": by_group(each.values)}

    return {
        "format": FORMAT,
        "base": letters[0],
        "groups": [_group(each) for each in found.groups],
        "about": [each.key for each in found.verdict.meant],
        "confounded_by": [told(each) for each in found.verdict.confounding],
        "sentence": found.verdict.sentence,
        "remarks": list(found.remarks),
        "settings": [told(each) for each in found.settings],
        "facts": [told(each) for each in found.facts],
        "metrics": [
            {
                "metric": each.metric,
                "headline": each.headline,
                "better": measures.BETTER.get(each.metric),
                "values": by_group(each.means),
                "intervals": by_group(each.spreads),
                "differences": [_difference(one) for one in each.differences],
            }
            for each in found.measures
        ],
        "kl": found.kl or None,
        "equal": [
            {
                "metric": each.metric,
                "axis": each.axis,
                "range": [each.low, each.high],
                "base_value": each.base_value,
                "value": each.value,
                "base_mean": each.base_mean,
                "mean": each.mean,
                **_difference(each.difference),
            }
            for each in found.equals
        ],
        "samples": [
            {
                "prompt": each.prompt,
                "answers": [
                    {
                        "group": one.letter,
                        "text": one.text,
                        "scores": {name: _plain(value) for name, value in one.scores.items()},
                    }
                    for one in each.answers
                ],
            }
            for each in found.exchanges
        ],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "group": group.letter,
        "runs": [
            {"name": run.name, "source": run.source, "stage": run.stage, "status": run.status, "seed": run.seed}
            for run in group.members
        ],
    }


def _difference(each: measures.Difference) -> dict[str, Any]:
    interval = each.interval
    return {
        "group": each.letter,
        "base": each.base,
        "difference": _plain(each.value),
        "low": _plain(interval.low) if interval else None,
        "high": _plain(interval.high) if interval else None,
        "method": interval.method if interval else None,
        "verdict": each.verdict,
        "why": each.why or None,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
