"""A comparison on a terminal."""

import re
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf.compare import differences, measures
from rlhf.compare.axes import AXES, KL
from rlhf.compare.comparison import Comparison
from rlhf.compare.groups import SEED, Group
from rlhf.report.paper import short
from rlhf.visible import visible

PLAIN_WIDTH = 160
DIGEST = re.compile(r"\b[0-9a-f]{24,}\b")
SETTINGS, METRICS, SAMPLES, TEXT = 20, 3, 3, 320
"""Settings, metrics with curves, prompts and characters of an answer that are shown; the page has all."""
FACTORS = 3
"""Differences that stand behind the name of a side."""
FEW = 3
"""Sides up to which curves of several metrics are shown."""
MARKS = {measures.SAME: " ≈", measures.NOT_COMPARABLE: " ≠"}
STYLES = {measures.HIGHER: "bold", measures.LOWER: "bold", measures.NOT_COMPARABLE: "yellow"}


def show(found: Comparison) -> None:
    """Print it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    letters = [each.letter for each in found.groups]
    for group in found.groups:
        console.print(Text(f"{group.letter}  {visible(about(found, group))}"))
    console.print()
    console.print(Text(visible(found.verdict.sentence), "bold"))
    for remark in found.remarks:
        console.print(Text(f"! {visible(remark)}", "yellow"))
    parts = differences.by_affects(found.settings)
    for kind, title in (("result", "Settings that can change the weights"), ("evaluation", "Settings of the evaluation")):
        _settings(console, title, letters, parts[kind])
    _settings(console, "Settings that cannot change them beyond rounding", letters, parts["system"])
    _settings(console, "Code, machine, data, parents", letters, found.facts)
    _metrics(console, found)
    _equals(console, found)
    _samples(console, found)


def about(found: Comparison, group: Group) -> str:
    """A side in one line: its runs, what they are, and what sets them apart."""
    first, names = group.first, ", ".join(each.name for each in group.members)
    facts = [first.stage, *(filter(None, [group.settings.get("model.name")]))]
    if group.seeds:
        facts.append(f"seed{'s' if len(group.seeds) > 1 else ''} {' '.join(map(str, group.seeds))}")
    apart = [*found.verdict.meant, *found.verdict.confounding][:FACTORS]
    at = found.groups.index(group)
    settings = ", ".join(f"{each.key}={told(each.values[at])}" for each in apart if each.key != SEED)
    return f"{names} ({', '.join(facts)}){': ' if settings else ''}{settings}"


def judged(each: measures.Difference) -> str:
    """A difference in words: `+0.12 (0.05 to 0.19), higher`."""
    sign = "+" if each.value >= 0 else ""
    ends = f" ({short(each.interval.low)} to {short(each.interval.high)})" if each.interval else ""
    return f"{sign}{short(each.value)}{ends}"


def told(value: str) -> str:
    """A value of a setting or a fact; of a digest its beginning."""
    return DIGEST.sub(lambda found: f"{found[0][:12]}…", value)


def verdict(metric: str, each: measures.Difference) -> str:
    """The verdict, with which way is better where that is plain."""
    if each.verdict not in (measures.HIGHER, measures.LOWER) or metric not in measures.BETTER:
        return each.verdict
    return f"{each.verdict}, {'better' if each.verdict == measures.BETTER[metric] else 'worse'}"


def because(each: measures.Difference) -> str:
    """What the interval is over, or why there is none; why it cannot be compared is among the remarks."""
    if each.interval:
        return each.interval.method
    return "" if each.verdict in (measures.NOT_COMPARABLE, measures.EQUAL) else each.why


def reached(value: float, mean: float, axis: str) -> str:
    """A value at the end of a range; at equal KL with the mean over the range."""
    return f"{short(value)} (mean {short(mean)})" if axis == KL else short(value)


def place(axis: str) -> str:
    """An axis for people."""
    return AXES.get(axis, "KL")


def _settings(console: Console, title: str, letters: Sequence[str], found: Sequence[differences.Difference]) -> None:
    if not found:
        return
    table = _table(["key", *letters])
    for each in found[:SETTINGS]:
        _row(table, [each.key, *map(told, each.values)])
    if len(found) > SETTINGS:
        _row(table, [f"and {len(found) - SETTINGS} more (--html or --json)"])
    _print(console, title, table)


def _metrics(console: Console, found: Comparison) -> None:
    shown = [each for each in found.measures if each.headline] or list(found.measures)
    if not shown:
        console.print(Text("They share no metric."))
        return
    base = found.groups[0].letter
    table = _table(["metric", "", "value", "difference", "", ""])
    for measure in shown:
        by_letter = {each.letter: each for each in measure.differences}
        for at, (group, value) in enumerate(zip(found.groups, measure.means, strict=True)):
            name = measure.metric if at == 0 else ""
            each = by_letter.get(group.letter)
            cells = [judged(each), verdict(measure.metric, each), because(each)] if each else ["", "", ""]
            style = STYLES.get(each.verdict, "") if each else ""
            _row(table, [name, group.letter, short(value) if value is not None else "–", *cells], style)
    _print(console, f"At the end: difference from {base}, with its 95 % interval", table)
    if any(each.verdict == measures.NO_INTERVAL for measure in shown for each in measure.differences):
        console.print(Text("An interval needs scores of the same single prompts, or several seeds a side."))


def _equals(console: Console, found: Comparison) -> None:
    first = list(dict.fromkeys(each.metric for each in found.equals if each.axis != KL))
    first = first[: METRICS if len(found.groups) <= FEW else 1]
    shown = [each for each in found.equals if each.axis == KL or each.metric in first]
    if not shown:
        return
    base = found.groups[0].letter
    table = _table(["metric", "at equal", "", "range", base, "value", f"difference from {base}"])
    before = ("", "")
    for each in shown:
        metric = f"{each.metric} (best)" if each.axis == KL else each.metric
        head = [metric, place(each.axis)] if (each.metric, each.axis) != before else ["", ""]
        before = each.metric, each.axis
        values = [reached(each.base_value, each.base_mean, each.axis), reached(each.value, each.mean, each.axis)]
        judgement = judged(each.difference) + MARKS.get(each.difference.verdict, "")
        _row(table, [*head, each.letter, f"{short(each.low)} to {short(each.high)}", *values, judgement])
    _print(console, f"As far as both {base} and the other have been (≈ not distinguishable, ≠ not comparable)", table)
    if any(each.axis == KL for each in shown):
        console.print(
            Text(f"KL: {found.kl}; the best value reached with at most that much of it, never beyond where both were.")
        )


def _samples(console: Console, found: Comparison) -> None:
    for exchange in found.exchanges[:SAMPLES]:
        console.print(Text(f"\n{_cut(exchange.prompt)}", "bold"))
        for answer in exchange.answers:
            scores = "  ".join(f"{name} {short(value)}" for name, value in answer.scores.items())
            console.print(
                Text(f"  {answer.letter}  {_cut(answer.text)}  [{scores}]" if scores else f"  {answer.letter}  {answer.text}")
            )
    if len(found.exchanges) > SAMPLES:
        console.print(Text(f"\nand {len(found.exchanges) - SAMPLES} prompts more (--html or --json)"))


def _cut(text: str) -> str:
    clean = " ".join(visible(text).split())
    return clean if len(clean) <= TEXT else f"{clean[:TEXT]} ..."


def _table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE)
    for name in columns:
        table.add_column(Text(visible(name)), overflow="fold")
    return table


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(f"\n{title}", "bold"))
    console.print(table)


def _row(table: Table, cells: Iterable[str], style: str = "") -> None:
    table.add_row(*_texts(cells), style=style)


def _texts(cells: Iterable[str]) -> Iterator[Text]:
    return (Text(visible(each)) for each in cells)
