"""What sets runs apart: settings, each with what it can change, and code, machine, data and parents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from rlhf.compare.groups import SEED, Group
from rlhf.compare.subject import DATA, PACKAGE, PARENT
from rlhf.config import CONF
from rlhf.explain import keys
from rlhf.lineage import READS

Affects = Literal["result", "evaluation", "system"]

MEASURED_BY = ("evaluation.", "data.eval_fraction")
NOT_MEASURED_BY = ("evaluation.micro_batch_size",)
UNKNOWN = "–"


@dataclass(frozen=True)
class Difference:
    """A key, or a group of keys that one option set, with its value in each group of runs."""

    key: str
    affects: Affects
    """Weights (`result`), what is measured (`evaluation`), or neither (`system`)."""
    values: Sequence[str]
    keys: Sequence[str] = ()
    """The single keys of an option."""


def of_settings(groups: Sequence[Group]) -> list[Difference]:
    """The keys that are not the same in all groups whose configuration is known, result keys first."""
    known = [each for each in groups if each.settings]
    every = sorted({key for each in known for key in each.settings})
    found = []
    for key in every:
        values = [each.settings.get(key, UNKNOWN) for each in groups]
        there = {each.settings[key] for each in known if key in each.settings}
        if len(there) > 1 or (_may_lack(key) and any(key not in each.settings for each in known)):
            found.append(Difference(key, affects(key), values))
    if known and differently_sown(known):
        found.append(Difference(SEED, "result", [" ".join(map(str, each.seeds)) or UNKNOWN for each in groups]))
    order = ("result", "evaluation", "system")
    return sorted(found, key=lambda each: (order.index(each.affects), each.key))


def differently_sown(groups: Sequence[Group]) -> bool:
    """Whether a single run has a seed that the base line lacks, or the base line is one and has a seed that another lacks."""
    base, others = groups[0], groups[1:]
    apart = [each for each in others if base.seeds and each.seeds and not set(base.seeds) & set(each.seeds)]
    return any(min(len(base.members), len(each.members)) == 1 for each in apart)


def factors(groups: Sequence[Group], found: Sequence[Difference]) -> list[Difference]:
    """``found`` with the keys that one option set (``model=...``, ``lora=...``) as a single difference, named by its group."""
    together: dict[str, Difference] = {}
    for each in found:
        if each.affects == "system":
            continue
        part = each.key.partition(".")[0]
        options = [_option(group, part) for group in groups] if "." in each.key and each.affects == "result" else []
        typed = any(text.startswith(f"{each.key}=") for group in groups for text in group.first.overrides)
        if options and not typed and len(set(options) - {""}) > 1:
            before = together.get(part)
            named = [option or UNKNOWN for option in options]
            together[part] = Difference(part, "result", named, [*(before.keys if before else ()), each.key])
        else:
            together[each.key] = each
    return list(together.values())


def of_facts(groups: Sequence[Group]) -> list[Difference]:
    """Code, packages, machine, data and parents that are not the same where they are known."""
    names = list(dict.fromkeys(name for group in groups for run in group.members for name in run.facts))
    found = []
    for name in names:
        values = [_told(group, name) for group in groups]
        if len(set(values) - {UNKNOWN}) > 1:
            found.append(Difference(name, "result" if name.startswith((DATA, PARENT)) else "system", values))
    return sorted(found, key=lambda each: (each.affects, each.key.startswith(PACKAGE)))


def unexplained(groups: Sequence[Group], found: Sequence[Difference], facts: Sequence[Difference]) -> Iterator[Difference]:
    """Data or parents that differ although no setting says why: other files under the same name, a model brought along."""
    parts = {each.key.partition(".")[0] for each in found if each.affects == "result"}
    data = [each.key for each in found if each.key.startswith("data.") and each.affects != "system"]
    seeds = [sorted(each.seeds) for each in groups]
    for fact in facts:
        if fact.key == DATA and not data and all(each == seeds[0] for each in seeds):
            yield fact
        if fact.key.startswith(PARENT) and not parts & set(READS.get(fact.key.removeprefix(PARENT), ())):
            yield fact


@cache
def _may_lack(key: str) -> bool:
    """Whether a run can be without ``key``, which is then a difference; else the run is older than the key."""
    return not any(field.path == key for field in keys.every())


@cache
def affects(key: str) -> Affects:
    """What a change of ``key`` can change; of one that is not in today's schema everything."""
    if key.startswith(MEASURED_BY) and not key.startswith(NOT_MEASURED_BY):
        return "evaluation"
    path = key
    while path:
        field = next((each for each in keys.every() if each.about(path)), None)
        if field is not None:
            return "system" if field.affects == "system" else "result"
        path = path.rpartition(".")[0]
    return "result"


def _option(group: Group, part: str) -> str:
    """The option of ``part`` that was chosen last, or the name that the chosen one bears."""
    if not (CONF / part).is_dir():
        return ""
    chosen = [text.partition("=")[2] for text in group.first.overrides if text.partition("=")[0] == part]
    return chosen[-1] if chosen else group.settings.get(f"{part}.name", "")


def _told(group: Group, name: str) -> str:
    values = dict.fromkeys(run.facts[name] for run in group.members if name in run.facts)
    if name.startswith((DATA, PARENT)) and len(values) > 1:
        return "one a seed"
    return ", ".join(values) or UNKNOWN


def by_affects(found: Sequence[Difference]) -> Mapping[str, list[Difference]]:
    """The differences by what they can change."""
    return {kind: [each for each in found if each.affects == kind] for kind in ("result", "evaluation", "system")}


def is_package(fact: Difference) -> bool:
    """Whether it is the version of a package."""
    return fact.key.startswith(PACKAGE)
