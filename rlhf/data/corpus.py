"""The data of a run: which example each stage is trained on, in which order, and on which it is measured."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rlhf.config import PARTS, DataConfig, Format, SourceConfig
from rlhf.data import generated, world
from rlhf.data.baselines import bayes_accuracy
from rlhf.data.generated import Gold
from rlhf.data.partition import assign, fraction, generator, is_held_out
from rlhf.data.records import Example
from rlhf.data.sources import Source, load_source
from rlhf.fault import Fault

SPLITS = ("train", "held_out")

WORLD = "world"
"""The path of the built-in world."""

Parts = dict[tuple[str, str], list[Example]]
"""Examples by (stage, split)."""


@dataclass(frozen=True)
class Corpus:
    """All data of a run. No prompt is both in training and held out, and none from a file is in two stages.

    (The built-in world has only so many prompts: its stages draw the same ones anew, with other answers.)
    """

    parts: Mapping[tuple[str, str], list[Example]]
    """Examples by (stage, split)."""
    weights: Mapping[str, float]
    """Weight of each source in an epoch."""
    digest: str
    """Of everything that decides the examples, as 64 hex digits."""
    gold: Gold | None
    """The true reward of a response to a prompt, where every source has one."""
    temperature: float
    """Evens out the sources' shares of an epoch."""
    fit: Mapping[str, set[str]]
    """Stages that each source from a file has examples for, whether they may use it or not."""
    report: list[str]
    """For a person: what was read, what each stage got, what was left out and where it stands."""

    def examples(self, stage: str, split: str) -> list[Example]:
        """The examples of a stage in `train` or `held_out`.

        `pretrain`: documents, `sft`: demonstrations, `rm`: comparisons, `ppo`: distinct prompts.

        Raises:
            Fault: there are none.
        """
        assert stage in PARTS and split in SPLITS, (stage, split)
        found = self.parts.get((stage, split), [])
        if not found:
            what = {"pretrain": "document", "sft": "demonstration", "rm": "pair", "ppo": "prompt"}[stage]
            if split == "train" or not self.parts.get((stage, "train")):
                fix = self._fix(stage, what)
            else:
                fix = "raise data.eval_fraction, or bring more data"
            raise Fault(f"data.sources: no {what} for stage {stage} ({split}); {fix}. " + "; ".join(self.report))
        return found

    def leaked(self) -> dict[str, float]:
        """Of each stage's held-out dialogues, the share that some stage trains on; documents have no prompt to compare."""
        trained = {example.opening for (_, split), each in self.parts.items() if split == "train" for example in each}
        shares = {}
        for (stage, split), examples in self.parts.items():
            asked = [example.opening in trained for example in examples if example.turns]
            if split == "held_out" and asked:
                shares[stage] = sum(asked) / len(asked)
        return shares

    def _fix(self, stage: str, what: str) -> str:
        """What brings examples to ``stage``, which has none."""
        if other := [name for name, stages in self.fit.items() if stage in stages]:
            mine = {own for (own, _), examples in self.parts.items() if any(each.source == other[0] for each in examples)}
            return f"give it some: 'data.sources.{other[0]}.stages=[{','.join([*sorted(mine), stage])}]'"
        if documents := [name for name, stages in self.fit.items() if stages == {"pretrain"}]:
            return (
                f"its rows are documents, which stage=pretrain 'data.sources.{documents[0]}.stages=[pretrain]' learns; "
                f"data.sources.{documents[0]}.format=continuation makes each a prompt and its answer"
            )
        return f"name a source with {what}s whose data.sources.<name>.stages holds {stage}"

    def order(self, stage: str, epoch: int, seed: int) -> list[int]:
        """Indices into the training examples in the order of one epoch.

        A source of weight 2 comes twice, one of weight 0.5 with half its examples, drawn anew each epoch (at least one);
        `data.temperature` changes the weights before.
        A pure function of its arguments, so that a resumed run needs no state.
        """
        by_source: dict[str, list[int]] = defaultdict(list)
        for index, example in enumerate(self.examples(stage, "train")):
            by_source[example.source].append(index)
        order: list[int] = []
        weights = self._tempered({source: len(indices) for source, indices in by_source.items()})
        for source, indices in by_source.items():
            whole, share = divmod(weights[source], 1)
            part = max(round(share * len(indices)), 0 if whole else 1)
            order += indices * int(whole) + generator("weight", seed, stage, epoch, source).sample(indices, part)
        generator("order", seed, stage, epoch).shuffle(order)
        return order

    def _tempered(self, sizes: Mapping[str, int]) -> Mapping[str, float]:
        """Weights that give sources of ``sizes`` shares as (weight * size)^(1 / temperature), in an epoch as long as before."""
        if self.temperature == 1:
            return self.weights
        shares = {source: self.weights[source] * size for source, size in sizes.items()}
        most = max(shares.values())  # scaled by it, so that no power overflows
        powers = {source: (share / most) ** (1 / self.temperature) for source, share in shares.items()}
        whole = sum(shares.values()) / sum(powers.values())
        return {source: power * whole / sizes[source] for source, power in powers.items()}


def load(data: DataConfig, seed: int, cache: str | None) -> Corpus:
    """Read all sources of ``data`` and deal their prompts out to the stages.

    Args:
        data: the sources.
        seed: the run's; only the built-in world draws training examples with it.
        cache: folder for downloads; None: the libraries' own.

    Raises:
        Fault: something is missing or cannot be read. Names the key, the value and the fix.
    """
    faults = list(_faults(data))
    if faults:
        raise Fault("; ".join(faults))
    parts: Parts = {(stage, split): [] for stage in PARTS for split in SPLITS}
    files, contents, notes = [], {}, {}
    for name, config in sorted(data.sources.items()):
        if config.path == WORLD:
            for place, examples in generated.generate(name, config, seed).items():
                parts[place] += examples
            contents[name] = f"{world.VERSION}/{seed}"
            notes[name] = [f"world {world.VERSION}, generated with seed {seed}"]
        else:
            source = load_source(name, config, data.max_bad_fraction, cache)
            files.append(source)
            contents[name] = source.digest
            notes[name] = [source.reading, *source.skipped]
    for name, (useless, homeless) in _deal(data, files, parts).items():
        stages = ", ".join(data.sources[name].stages)
        notes[name] += [f"{useless} examples left out: they are for none of its stages ({stages})"] * (useless > 0)
        notes[name] += [f"{homeless} examples left out: their prompt went to another stage"] * (homeless > 0)
    if data.system_prompt is not None:  # only now, so that it moves no prompt to another stage
        parts = {place: [each.told(data.system_prompt) for each in examples] for place, examples in parts.items()}
    for split in SPLITS:
        parts["ppo", split] = _distinct(parts["ppo", split])
    if data.max_train_examples is not None:
        for stage in PARTS:
            by_hash = sorted(parts[stage, "train"], key=lambda example: fraction("subset", example.talk))
            parts[stage, "train"] = by_hash[: data.max_train_examples]
    return Corpus(
        parts=parts,
        weights={name: config.weight for name, config in data.sources.items()},
        temperature=data.temperature,
        digest=_digest(data, contents),
        gold=generated.gold if not files else None,
        fit={source.name: set().union(*map(_fit, source.examples)) for source in files},
        report=[f"{name}: {'; '.join([*lines, *_shares(name, parts)])}" for name, lines in notes.items()],
    )


def _deal(data: DataConfig, files: Iterable[Source], parts: Parts) -> dict[str, tuple[int, int]]:
    """Add the examples of ``files`` to ``parts``; how many of each source suit no stage of it, and find no place."""
    offered = {
        source.name: [(example, _usable(example, data.sources[source.name])) for example in source.examples] for source in files
    }
    stage_of = assign((example.opening, stages) for offers in offered.values() for example, stages in offers)
    homeless = dict.fromkeys(offered, 0)
    demonstrated: set[tuple[str, str | None]] = set()
    for name, offers in offered.items():
        for example, stages in offers:
            chosen = stage_of.get(example.opening)
            if is_held_out(example.opening, data.eval_fraction):  # nobody trains on it, so every stage may be measured on it
                places = [(stage, "held_out") for stage in stages]
            else:
                places = [(chosen, "train")] if chosen is not None and chosen in stages else []
            homeless[name] += bool(stages) and not places
            answer = (example.key, example.response)
            for stage, split in places:
                if stage != "sft" or example.rejected is None or answer not in demonstrated:  # it may win several comparisons
                    parts[stage, split].append(_without_surplus(example, stage))
                demonstrated |= {answer} if stage == "sft" else set()
    useless = {name: sum(not stages for _, stages in offers) for name, offers in offered.items()}
    return {name: (useless[name], homeless[name]) for name in offered}


def _usable(example: Example, config: SourceConfig) -> set[str]:
    """The stages of the source that can use the example."""
    return _fit(example) & set(config.stages)


def _fit(example: Example) -> set[str]:
    """The stages that can use the example."""
    prompt = bool(example.turns)
    fit = {
        "pretrain": not prompt,
        "sft": prompt and example.response is not None and example.demonstrates,
        "rm": example.rejected is not None or (prompt and example.rating is not None),
        "ppo": prompt,
    }
    return {stage for stage, can in fit.items() if can}


def _without_surplus(example: Example, stage: str) -> Example:
    """What ``stage`` may see of an example: PPO's policy never sees an answer."""
    match stage:
        case "sft":
            return replace(example, rejected=None, probability=None, ranking=(), margin=None, places=())
        case "ppo":
            bare = replace(example, response=None, rejected=None, probability=None, ranking=(), margin=None, rating=None)
            return replace(bare, solution=example.response, places=())
        case _:
            return example


def _distinct(examples: Iterable[Example]) -> list[Example]:
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.key, example)
    return list(first.values())


def _shares(name: str, parts: Parts) -> Iterator[str]:
    """What each stage got from a source."""
    for stage in PARTS:
        train, held_out = ([example for example in parts[stage, split] if example.source == name] for split in SPLITS)
        if train or held_out:
            bayes = bayes_accuracy(held_out)
            known = "" if bayes is None else f" (no scorer can expect more than {bayes:.3f} on these)"
            yield f"{stage} {len(train)} + {len(held_out)} held out{known}"


def _digest(data: DataConfig, contents: Mapping[str, str]) -> str:
    sources = [
        [
            name,
            contents[name],
            config.format.name,
            config.cap,
            config.weight,
            sorted(set(config.stages)),
            dict(config.columns),
            {column: list(values) for column, values in config.keep.items()},
        ]
        for name, config in sorted(data.sources.items())
    ]
    mixing = [data.eval_fraction, data.max_train_examples, data.temperature, data.system_prompt]
    content = json.dumps([*mixing, sources], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _faults(data: DataConfig) -> Iterator[str]:
    if not data.sources:
        yield "data.sources: is empty; choose a data option or name a source"
    if not 0 < data.eval_fraction < 1:
        yield f"data.eval_fraction={data.eval_fraction}: must be between 0 and 1, or nothing is held out"
    for name, source in data.sources.items():
        key = f"data.sources.{name}"
        if not 0 < source.weight < float("inf"):
            yield f"{key}.weight={source.weight}: must be above 0; leave the source out instead"
        if source.cap is not None and source.cap < 1:
            yield f"{key}.cap={source.cap}: must be at least 1, or null for all rows"
        unknown = [stage for stage in source.stages if stage not in PARTS]
        if unknown or not source.stages:
            yield f"{key}.stages={list(source.stages)}: choose from {', '.join(PARTS)}"
        if source.path == WORLD and source.format not in (Format.auto, *generated.OF_WORLD):
            yield f"{key}.format={source.format.name}: path=world is generated, not read; use format=world"
