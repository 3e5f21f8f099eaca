"""Whether a comparison is about one thing: what was meant to differ, and what else does."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rlhf.compare import differences
from rlhf.compare.differences import Difference
from rlhf.compare.groups import SEED, Group
from rlhf.fault import Fault

NAMED = 5
"""Differences of a sentence; the table has all."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison is about."""

    meant: Sequence[Difference] = field(default_factory=list)
    confounding: Sequence[Difference] = field(default_factory=list)
    """What can change the results too, though it was not meant; each confounds the others where nothing was meant."""
    sentence: str = ""


def judge(
    groups: Sequence[Group], settings: Sequence[Difference], facts: Sequence[Difference], about: Sequence[str]
) -> Verdict:
    """What was meant (``about``, else what their study varies, else the only thing that differs) and what confounds it.

    Of runs of several stages that is said first.

    Raises:
        Fault: a key of ``about`` is the same everywhere, or there is none such.
    """
    found, stages = _among_settings(groups, settings, facts, about), list(dict.fromkeys(group.first.stage for group in groups))
    if len(stages) == 1:
        return found
    return replace(found, sentence=f"They are of {len(stages)} stages, {_list(stages)}. {found.sentence}")


def _among_settings(
    groups: Sequence[Group], settings: Sequence[Difference], facts: Sequence[Difference], about: Sequence[str]
) -> Verdict:
    factors = [*differences.factors(groups, settings), *differences.unexplained(groups, settings, facts)]
    meant = list(_asked(groups, factors, settings, about)) if about else _of_the_study(groups, factors)
    if not factors:
        return Verdict(sentence=_nothing(groups, settings))
    if not meant and len(factors) == 1:
        return Verdict(factors, [], f"They differ in {_shown(factors[0])} alone.")
    others = [each for each in factors if each not in meant]
    if meant:
        told = f"About {_list([each.key for each in meant])}"
        sentence = f"{told}; confounded by {_list(map(_shown, others))}." if others else f"{told}; nothing else differs."
        return Verdict(meant, others, sentence)
    several = f"{len(factors)} things differ, and each is confounded by the others: {_list(map(_shown, factors))}."
    return Verdict([], factors, f"{several} --about KEY names the one that is meant.")


def _asked(
    groups: Sequence[Group], factors: Sequence[Difference], settings: Sequence[Difference], about: Sequence[str]
) -> Iterator[Difference]:
    every = {key: value for group in groups for key, value in group.settings.items()}
    for word in about:
        found = [each for each in factors if _names(word, each)]
        found += [each for each in settings if each.affects == "system" and _names(word, each)]
        if found:
            yield from found
        elif inside := [key for key in every if key == word or key.startswith(f"{word}.")]:
            same = f" ({every[word]})" if inside == [word] else ""
            apart = _list([each.key for each in factors]) or "nothing that can change results"
            raise Fault(f"--about {word}: is the same in all of them{same}; they differ in {apart}")
        else:
            near = difflib.get_close_matches(word, [each.key for each in factors] + sorted(every), 1)
            hint = f"did you mean {near[0]}?" if near else "name a key that differs"
            raise Fault(f"--about {word}: there is no such key in them; {hint}")


def _of_the_study(groups: Sequence[Group], factors: Sequence[Difference]) -> list[Difference]:
    runs = [run for group in groups for run in group.members]
    if not runs[0].study or len({run.study for run in runs}) > 1:
        return []
    swept = frozenset().union(*(run.swept for run in runs))
    return [each for each in factors if any(_names(key, each) for key in swept)]


def _names(word: str, factor: Difference) -> bool:
    return any(key == word or key.startswith(f"{word}.") for key in (factor.key, *factor.keys))


def _nothing(groups: Sequence[Group], settings: Sequence[Difference]) -> str:
    if any(not group.settings for group in groups):
        return "What sets them apart is not known: one of them came without its configuration."
    if len({group.first.stage for group in groups}) > 1:
        return "No setting differs that both read." if len(groups) == 2 else "No setting differs that all read."
    signatures = {run.signature for group in groups for run in group.members}
    if settings:
        how = "They differ in settings alone that cannot change the weights beyond rounding"
    else:
        how = "No setting differs that their stage reads"
    return f"{how}{'; their result signatures are equal' if len(signatures) == 1 and '' not in signatures else ''}."


def _shown(each: Difference) -> str:
    values = list(dict.fromkeys(each.values))
    told = ", ".join(values[:NAMED]) + (", ..." if len(values) > NAMED else "")
    return f"{'the ' if ' ' in each.key else ''}{each.key} ({told})"


def _list(words: "Sequence[str] | map[str]") -> str:
    every = list(words)
    if len(every) > NAMED:
        every = [*every[:NAMED], f"{len(every) - NAMED} more"]
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def is_seed_alone(verdict: Verdict) -> bool:
    """Whether the seed is all that differs, so that every difference is what seeds do."""
    return [each.key for each in verdict.meant] == [SEED] and not verdict.confounding
