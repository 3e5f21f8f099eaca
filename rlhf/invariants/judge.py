"""Whether a way computes the same and, if not, where it parts: figures, the first tensor, answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from rlhf.invariants import compare
from rlhf.invariants.compare import Distance
from rlhf.invariants.repeat import Outcome
from rlhf.invariants.truth import Truth
from rlhf.invariants.ways import CACHE, Invariance, Way

Verdict = Enum("Verdict", ["ok", "differs", "broke", "not_tried"])

Again = Callable[[Way, int], Outcome]
"""Repeats a way up to an update."""


@dataclass
class Judged:
    """A way and what is to be said of it."""

    way: str
    verdict: Verdict
    why: str = ""
    farthest: dict[str, float] = field(default_factory=dict)
    """Largest distance of the loss and of the gradient norms, in parts of max(0.1, |x|), and of a tensor's weights and of its
    running gradients."""
    update: int | None = None
    """The first at which something differs."""
    tensor: str | None = None
    """The first that differs, in the order of the forward pass, as `network/parameter`."""


def judge(way: Way, outcome: Outcome, truth: Truth, again: Again) -> Judged:
    """Hold what came of a way against plain torch, and look for the first tensor that differs."""
    if outcome.why_not:
        return Judged(way.what, Verdict.not_tried, outcome.why_not)
    if outcome.broke:
        return Judged(way.what, Verdict.broke, outcome.broke)
    farthest = {
        "loss": compare.farthest(truth.rows, outcome.rows, "loss"),
        "gradient norm": compare.farthest(truth.rows, outcome.rows, "grad_norm/"),
        "weights": max(each.weights for each in outcome.apart.values()),
        "gradients": max(each.gradient for each in outcome.apart.values()),
    }
    wrong = compare.wrong_figures(truth.rows, outcome.rows)
    if wrong:
        update, name, place = _part(way, wrong[0].update, truth, again)
        return Judged(way.what, Verdict.differs, f"{wrong[0]}; {place}", farthest, min(update, wrong[0].update), name)
    if names := _differing(outcome.apart, truth):
        why = f"weights after update {truth.updates}; {_place(names, outcome.apart, truth.updates)}"
        return Judged(way.what, Verdict.differs, why, farthest, truth.updates, names[0])
    if outcome.parting:
        return Judged(way.what, Verdict.differs, f"greedy answers part: {outcome.parting}", farthest)
    return Judged(way.what, Verdict.ok, farthest=farthest)


def _part(way: Way, update: int, truth: Truth, again: Again) -> tuple[int, str | None, str]:
    """The update, the first tensor and a sentence: a figure is off at ``update``, and may be so by the one before."""
    for until in (update - 1, update):
        apart = again(way, until).apart if until else {}
        if names := _differing(apart, truth):
            return until, names[0], _place(names, apart, until)
    return update, None, f"no tensor differs after update {update}"


def _differing(apart: dict[str, Distance], truth: Truth) -> list[str]:
    return [name for name in truth.order if name in apart and apart[name].differs]


def _place(names: list[str], apart: dict[str, Distance], update: int) -> str:
    first = apart[names[0]]
    others = f", the last {names[-1]}" if len(names) > 1 else ""
    return (
        f"first tensor: {names[0]} (after update {update} weights {first.weights:.1e} and gradient {first.gradient:.1e} off; "
        f"{len(names)} of {len(apart)} tensors differ{others})"
    )


def sum_up(invariance: Invariance, judged: list[Judged], answers: int) -> tuple[Verdict, str]:
    """The verdict on an invariance, and what is said of it in a line; each way has given ``answers`` greedy answers."""
    for verdict in (Verdict.differs, Verdict.broke):
        if found := [each for each in judged if each.verdict is verdict]:
            others = f" (and {len(found) - 1} of {len(judged)} ways more)" if len(found) > 1 else ""
            return verdict, f"{found[0].way}: {found[0].why}{others}"
    if not judged:
        return Verdict.not_tried, invariance.why_not
    untried = [each for each in judged if each.verdict is Verdict.not_tried]
    tried = [each for each in judged if each.verdict is Verdict.ok]
    if not tried:
        return Verdict.not_tried, untried[0].why
    said = f"{answers} answers token-equal"
    if invariance.name == CACHE:
        return Verdict.ok, f"{tried[0].way}; {said}"
    most = {name: max(each.farthest[name] for each in tried) for name in tried[0].farthest}
    text = f"{', '.join(each.way for each in tried)}; off by at most "
    text += ", ".join(f"{name} {value:.0e}" for name, value in most.items())
    text += f"; {said}" if answers else ""
    return Verdict.ok, text + "".join(f"; not {each.way}: {each.why}" for each in untried)
