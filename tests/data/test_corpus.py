"""What each stage gets, in which order, and what is said about it."""

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf.config import DataConfig, Format, SourceConfig
from rlhf.data import generated, world
from rlhf.data.corpus import SPLITS, Corpus, load
from rlhf.data.records import Turn
from rlhf.fault import Fault

STAGES = ("sft", "rm", "ppo")
"""Those that use prompts."""
PLACES = [(stage, split) for stage in STAGES for split in SPLITS]


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def source(
    path: str, stages: tuple[str, ...] = STAGES, weight: float = 1.0, cap: int | None = None, kind: str = "auto"
) -> SourceConfig:
    taken = {"subset": None, "split": "train", "files": None, "streaming": False, "columns": {}, "keep": {}}
    return SourceConfig(path=path, format=Format[kind], cap=cap, weight=weight, stages=list(stages), **taken)


def mix(
    eval_fraction: float = 0.2,
    max_bad_fraction: float = 0.0,
    most: int | None = None,
    temperature: float = 1.0,
    system: str | None = None,
    **sources: SourceConfig,
) -> DataConfig:
    return DataConfig("mix", sources, temperature, system, eval_fraction, most, max_bad_fraction)


def pairs(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(first, first + count)]


def prompts(corpus: Corpus, stage: str, split: str) -> set[str]:
    return {example.key for example in corpus.parts[stage, split]}


def train(corpus: Corpus, stage: str) -> list[str]:
    return [example.turns[-1].text for example in corpus.parts[stage, "train"]]


# who gets what


kinds = st.sampled_from(["prompt", "demonstration", "pair"])
rows = st.lists(st.tuples(st.integers(0, 25), kinds), min_size=1, max_size=40)
sources = st.dictionaries(st.sampled_from("abc"), st.tuples(rows, st.sets(st.sampled_from(STAGES), min_size=1)), min_size=1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=sources, seed=st.integers(0, 5), eval_fraction=st.sampled_from([0.05, 0.3, 0.7]))
def test_prompts_never_cross_and_none_is_lost(tmp_path: Path, drawn: dict[str, Any], seed: int, eval_fraction: float) -> None:
    columns = {"prompt": (), "demonstration": ("chosen",), "pair": ("chosen", "rejected")}
    fit = {"prompt": {"ppo"}, "demonstration": {"sft", "ppo"}, "pair": set(STAGES)}
    configs, offered = {}, {}
    for name, (made, stages) in drawn.items():
        for kind in {kind for _, kind in made}:
            content = [
                {"prompt": f"q {n}"}
                | {"response" if kind == "demonstration" else column: f"{column} {n}" for column in columns[kind]}
                for n, own in made
                if own == kind
            ]
            configs[f"{name}_{kind}"] = source(write(tmp_path / f"{name}_{kind}.jsonl", content), tuple(stages))
            for row in content:
                offered.setdefault(row["prompt"], set()).update(fit[kind] & stages)
    corpus = load(mix(eval_fraction, **configs), seed, None)
    trained = Counter(key for stage in STAGES for key in prompts(corpus, stage, "train"))
    held_out = {key for stage in STAGES for key in prompts(corpus, stage, "held_out")}
    assert set(trained.values()) <= {1}, "a prompt trains two stages"
    assert not held_out & set(trained), "a held-out prompt is trained on"
    places = [(example.turns[-1].text, stage) for stage, split in PLACES for example in corpus.parts[stage, split]]
    assert {text for text, _ in places} == {text for text, stages in offered.items() if stages}, "a prompt is lost"
    assert all(stage in offered[text] for text, stage in places)
    assert corpus.parts == load(mix(eval_fraction, **configs), seed + 1, None).parts, "the seed decides"


def test_each_stage_gets_what_it_can_use(tmp_path: Path) -> None:
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", pairs(300) + pairs(300)))), 1, None)
    for stage, expected in (("sft", (True, False)), ("rm", (True, True)), ("ppo", (False, False))):
        for split in SPLITS:
            examples = corpus.examples(stage, split)
            assert {(each.response is not None, each.rejected is not None) for each in examples} == {expected}
            copies = Counter(example.key for example in examples)
            assert set(copies.values()) == {2 if stage == "rm" else 1}, "the winner of two comparisons is one demonstration"


def test_a_demonstration_that_comes_twice_counts_twice(tmp_path: Path) -> None:
    rows = [{"instruction": f"do {n}", "output": "done"} for n in range(90)]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows + rows), ("sft",))), 1, None)
    assert set(Counter(example.key for example in corpus.examples("sft", "train")).values()) == {2}


def test_what_people_disliked_is_no_demonstration_but_rates_an_answer(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "completion": "so", "label": n % 2 == 0} for n in range(300)]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows))), 1, None)
    for split in SPLITS:
        assert {each.rating for each in corpus.examples("sft", split)} == {1.0}
        assert {each.rating for each in corpus.examples("rm", split)} == {0.0, 1.0}
        assert {(each.response, each.rating) for each in corpus.examples("ppo", split)} == {(None, None)}
    for one, other in itertools.permutations(STAGES, 2):
        assert not prompts(corpus, one, "train") & prompts(corpus, other, "train")
        assert not prompts(corpus, one, "train") & prompts(corpus, other, "held_out")


def test_all_of_a_tree_and_of_a_conversation_goes_to_one_place(tmp_path: Path) -> None:
    def tree(n: int) -> dict[str, Any]:
        follow = [{"text": f"and {n}?", "replies": [{"text": "yes", "rank": 0}, {"text": "no", "rank": 1}]}]
        replies = [{"text": "a", "rank": 0, "replies": follow}, {"text": "b", "rank": 1}, {"text": "c", "rank": 2}]
        return {"message_tree_id": str(n), "prompt": {"text": f"question {n}", "replies": replies}}

    def chat(n: int) -> dict[str, Any]:
        texts = [f"question {n}", "so", "and?", "yes"]
        return {"messages": [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]}

    trees = source(write(tmp_path / "a.jsonl", [tree(n) for n in range(200)]))
    chats = source(write(tmp_path / "b.jsonl", [chat(n) for n in range(100, 300)]))
    corpus = load(mix(trees=trees, chats=chats), 1, None)
    places: dict[str, set[tuple[str, str]]] = {}
    for place in PLACES:
        for example in corpus.parts[place]:
            places.setdefault(example.turns[0].text, set()).add(place)
    for found in places.values():
        assert len(found) == 1 or {split for _, split in found} == {"held_out"}
    assert {len(each.ranking) for each in corpus.examples("rm", "train")} == {0, 3}
    assert not any(each.ranking for each in corpus.examples("sft", "train"))


def test_a_system_prompt_goes_before_every_prompt_and_moves_none(tmp_path: Path) -> None:
    own = [{"prompt": f"own {n}", "completion": "so", "system": "Mine."} for n in range(100)]
    files = {
        "plain": source(write(tmp_path / "a.jsonl", pairs(200))),
        "own": source(write(tmp_path / "b.jsonl", own)),
        "town": source("world", cap=5),
        "text": source(write(tmp_path / "c.jsonl", [{"text": f"document {n}"} for n in range(20)]), ("pretrain",)),
    }
    plain, told = (load(mix(system=system, **files), 1, None) for system in (None, "Be kind."))
    for place in PLACES:
        assert [each.turns[-1] for each in told.parts[place]] == [each.turns[-1] for each in plain.parts[place]]
        for each in told.parts[place]:
            assert each.turns[0] == Turn("system", "Mine." if each.source == "own" else "Be kind.")
    assert told.parts["pretrain", "train"] == plain.parts["pretrain", "train"]
    assert told.digest != plain.digest


def test_a_system_prompt_changes_nothing_in_which_part_of_the_rows_is_used(tmp_path: Path) -> None:
    files = {"mine": source(write(tmp_path / "a.jsonl", pairs(300)))}
    plain, told = (load(mix(most=20, system=system, **files), 1, None) for system in (None, "Be kind."))
    for stage in STAGES:
        assert len(plain.examples(stage, "train")) == 20
        assert train(told, stage) == train(plain, stage)


def test_temperature_evens_out_the_sources_and_keeps_the_length(tmp_path: Path) -> None:
    files = {
        "large": source(write(tmp_path / "a.jsonl", pairs(900)), ("sft",)),
        "small": source(write(tmp_path / "b.jsonl", pairs(100, 900)), ("sft",)),
        "half": source(write(tmp_path / "c.jsonl", pairs(200, 1000)), ("sft",), weight=0.5),
    }
    shares = {}
    for temperature in (1.0, 2.0, 1e9):
        corpus = load(mix(temperature=temperature, **files), 1, None)
        examples, order = corpus.examples("sft", "train"), corpus.order("sft", 3, 7)
        assert order == corpus.order("sft", 3, 7) != corpus.order("sft", 4, 7)
        shares[temperature] = Counter(examples[index].source for index in order)
    sizes = Counter(example.source for example in examples)
    weighted = {"large": sizes["large"], "small": sizes["small"], "half": sizes["half"] / 2}
    roots = {name: size**0.5 for name, size in weighted.items()}
    total = sum(weighted.values())
    for name, size in weighted.items():
        assert shares[1.0][name] == pytest.approx(size, abs=1)
        assert shares[2.0][name] == pytest.approx(total * roots[name] / sum(roots.values()), abs=1)
        assert shares[1e9][name] == pytest.approx(total / 3, abs=1)


def test_a_demonstration_is_not_wasted_on_the_reward_model(tmp_path: Path) -> None:
    rows = [{"instruction": f"do {n}", "output": "done"} for n in range(90)]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows))), 1, None)
    held_out = {example.key for example in corpus.parts["sft", "held_out"]}
    assert sum(len(corpus.parts[stage, "train"]) for stage in STAGES) + len(held_out) == 90
    assert not corpus.parts["rm", "train"] and not corpus.parts["rm", "held_out"]


def test_a_stage_takes_no_row_from_a_source_that_does_not_list_it(tmp_path: Path) -> None:
    """Both sources hold the same prompts, so either stage gets some of them, and each source gives up the others' share."""
    one, two = (source(write(tmp_path / f"{stage}.jsonl", pairs(200)), (stage,)) for stage in ("sft", "rm"))
    corpus = load(mix(one=one, two=two), 1, None)
    for stage, name in (("sft", "one"), ("rm", "two")):
        assert {example.source for example in corpus.examples(stage, "train")} == {name}
    left_out = [int(line.split(" examples left out")[0].rsplit(" ", 1)[1]) for line in corpus.report]
    held_out = {stage: len(corpus.parts[stage, "held_out"]) for stage in ("sft", "rm")}
    assert held_out["sft"] == held_out["rm"] > 0, "held-out prompts are shared"
    assert sum(left_out) == 200 - held_out["rm"] and all(40 < count < 140 for count in left_out)


def test_a_dialogue_and_its_continuations_stay_together(tmp_path: Path) -> None:
    short = "\n\nHuman: question {n}\n\nAssistant:"
    rows = [{"prompt": short.format(n=n), "answer": "a"} for n in range(100)]
    rows += [{"prompt": short.format(n=n) + " a\n\nHuman: and then?\n\nAssistant:", "answer": "b"} for n in range(100)]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows), ("sft", "ppo"))), 1, None)
    for place in PLACES:
        assert set(Counter(example.opening for example in corpus.parts[place]).values()) <= {2}


def test_identical_answers_are_skipped_and_counted_not_trained_on(tmp_path: Path) -> None:
    """Trap: such a pair has a gradient of exactly zero."""
    rows = [*pairs(50), {"prompt": "same", "chosen": "yes ", "rejected": "yes"}]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows), ("rm",))), 1, None)
    assert sum(len(corpus.parts["rm", split]) for split in SPLITS) == 50
    assert "1 pairs skipped: both answers are the same" in corpus.report[0]


# in which order


def weighted(folder: Path, weight: float, count: int = 40) -> Corpus:
    return load(mix(0.01, mine=source(write(folder / "a.jsonl", pairs(count)), ("sft",), weight=weight)), 1, None)


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_a_weight_is_how_often_a_row_comes_in_an_epoch(tmp_path: Path, weight: float) -> None:
    corpus = weighted(tmp_path, weight)
    size = len(corpus.examples("sft", "train"))
    copies = Counter(corpus.order("sft", 0, 7))
    assert sum(copies.values()) == round(weight * size)
    assert set(copies.values()) <= {max(1, int(weight)), int(weight) + (weight % 1 > 0)}
    assert weight < 1 or set(copies) == set(range(size))


def test_half_an_epoch_is_drawn_anew_each_time(tmp_path: Path) -> None:
    corpus = weighted(tmp_path, 0.5)
    drawn = [frozenset(corpus.order("sft", epoch, 7)) for epoch in range(20)]
    assert len(set(drawn)) > 15
    assert frozenset.union(*drawn) == set(range(len(corpus.examples("sft", "train"))))


def test_a_tiny_weight_still_gives_a_row_so_that_epochs_end(tmp_path: Path) -> None:
    assert len(weighted(tmp_path, 1e-9).order("sft", 0, 7)) == 1


def test_weights_are_per_source(tmp_path: Path) -> None:
    one = source(write(tmp_path / "a.jsonl", pairs(30)), ("sft",), weight=2.0)
    two = source(write(tmp_path / "b.jsonl", pairs(30, first=100)), ("sft",))
    corpus = load(mix(0.01, one=one, two=two), 1, None)
    examples = corpus.examples("sft", "train")
    for index, count in Counter(corpus.order("sft", 0, 7)).items():
        assert count == (2 if examples[index].source == "one" else 1)


def test_the_order_is_a_pure_function_and_changes_with_epoch_seed_and_stage(tmp_path: Path) -> None:
    config = mix(mine=source(write(tmp_path / "a.jsonl", pairs(300))))
    corpus, again = load(config, 1, None), load(config, 1, None)
    assert corpus.order("rm", 3, 7) == again.order("rm", 3, 7) == corpus.order("rm", 3, 7)
    assert corpus.order("rm", 3, 7) != corpus.order("rm", 4, 7)
    assert corpus.order("rm", 3, 7) != corpus.order("rm", 3, 8)
    assert corpus.order("rm", 3, 7) != sorted(corpus.order("rm", 3, 7))


# what is signed


def test_the_digest_changes_with_what_decides_the_examples_and_with_nothing_else(tmp_path: Path) -> None:
    base = source(write(tmp_path / "a.jsonl", pairs(60)))
    moved = source(write(tmp_path / "elsewhere.jsonl", pairs(60)))
    digest = load(mix(mine=base), 1, None).digest
    assert digest == load(mix(mine=moved), 2, None).digest
    assert digest == load(mix(mine=dataclasses.replace(base, stages=["ppo", "rm", "sft"])), 1, None).digest
    others = [
        mix(mine=source(write(tmp_path / "b.jsonl", pairs(61)))),
        mix(mine=dataclasses.replace(base, cap=59)),
        mix(mine=dataclasses.replace(base, weight=2.0)),
        mix(mine=dataclasses.replace(base, format=Format.pair)),
        mix(mine=dataclasses.replace(base, stages=["sft", "rm"])),
        mix(0.3, mine=base),
        mix(other=base),
        mix(mine=base, more=moved),
    ]
    assert len({digest, *(load(other, 1, None).digest for other in others)}) == 1 + len(others)


def test_the_order_of_sources_in_the_configuration_does_not_matter(tmp_path: Path) -> None:
    one, two = (source(write(tmp_path / f"{n}.jsonl", pairs(40, first=n))) for n in (0, 100))
    first, second = load(mix(one=one, two=two), 1, None), load(mix(two=two, one=one), 1, None)
    assert first.digest == second.digest and first.parts == second.parts


# faults and the report


def test_bad_rows_within_the_limit_are_skipped_and_the_first_three_shown(tmp_path: Path) -> None:
    rows = pairs(96) + [{"prompt": "p", "chosen": "", "rejected": "no"}] * 4
    path = write(tmp_path / "a.jsonl", rows)
    (line,) = load(mix(max_bad_fraction=0.04, mine=source(path)), 1, None).report
    assert line.startswith(f"mine: 100 rows of {path} read as pair (columns prompt, chosen, rejected)")
    assert f"4 skipped as unreadable: {path}:97: chosen: is empty; {path}:98" in line and "and 1 more" in line
    assert f"{path}:100" not in line
    with pytest.raises(
        ValueError, match=r"4 of 100 rows.*data\.max_bad_fraction=0\.03.*:97: chosen: is empty.*raise data\.max_bad_fraction"
    ):
        load(mix(max_bad_fraction=0.03, mine=source(path)), 1, None)


def test_an_unknown_format_lists_the_columns_and_the_choices(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "a", "reply": "b"}])
    with pytest.raises(Fault, match=r"data\.sources\.mine\.format=auto.*question, reply.*alpaca \(instruction, output\)"):
        load(mix(mine=source(path)), 1, None)


def test_a_file_without_one_readable_row_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("hello\n")
    with pytest.raises(Fault, match=r"data\.sources\.mine\.path=.*a\.jsonl:1: row: is not JSON"):
        load(mix(0.2, 1.0, mine=source(str(tmp_path / "a.jsonl"))), 1, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, r"data\.sources\.mine\.weight=0\.0: must be above 0"),
        ({"weight": -1.0}, r"data\.sources\.mine\.weight=-1\.0"),
        ({"weight": float("nan")}, r"data\.sources\.mine\.weight=nan"),
        ({"cap": 0}, r"data\.sources\.mine\.cap=0"),
        ({"stages": ["sft", "dpo"]}, r"data\.sources\.mine\.stages=.*dpo.*choose from pretrain, sft, rm, ppo"),
        ({"stages": []}, r"data\.sources\.mine\.stages=\[\]"),
        ({"format": Format.world}, r"data\.sources\.mine\.format=world.*path=world"),
        ({"path": "world", "format": Format.pair}, r"data\.sources\.mine\.format=pair.*path=world"),
        ({"path": "world", "cap": None}, r"data\.sources\.mine\.cap=null"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good = source(write(tmp_path / "a.jsonl", pairs(5)))
    with pytest.raises(Fault, match=message):
        load(mix(mine=dataclasses.replace(good, **change)), 1, None)


def test_all_faults_come_at_once() -> None:
    with pytest.raises(Fault, match=r"data\.eval_fraction=0\.0.*a\.weight.*b\.cap"):
        load(mix(0.0, a=source("x", weight=0.0), b=source("y", cap=0)), 1, None)
    with pytest.raises(Fault, match=r"data\.sources: is empty"):
        load(mix(), 1, None)


def test_an_empty_stage_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": f"p {n}", "answer": "a"} for n in range(30)])
    corpus = load(mix(1e-9, mine=source(path, ("sft", "rm"))), 1, None)
    assert len(corpus.examples("sft", "train")) == 30
    with pytest.raises(Fault, match=r"no pair for stage rm \(train\).*holds rm.*mine: 30 rows"):
        corpus.examples("rm", "train")
    with pytest.raises(Fault, match=r"no demonstration for stage sft \(held_out\); raise data\.eval_fraction"):
        corpus.examples("sft", "held_out")


def test_what_a_source_gives_already_stays_in_the_advice(tmp_path: Path) -> None:
    rows = [{"prompt": f"Number {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(30)]
    corpus = load(mix(mine=source(write(tmp_path / "a.jsonl", rows), stages=("rm",))), 1, None)
    with pytest.raises(Fault, match=r"give it some: 'data\.sources\.mine\.stages=\[rm,sft\]'"):
        corpus.examples("sft", "train")


def test_documents_are_offered_the_stage_that_learns_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"Story {n}. It ends."} for n in range(30)])
    corpus = load(mix(mine=source(path)), 1, None)
    with pytest.raises(Fault, match=r"stage=pretrain 'data\.sources\.mine\.stages=\[pretrain\]'.*format=continuation") as told:
        corpus.examples("sft", "train")
    assert "30 examples left out: they are for none of its stages (sft, rm, ppo)" in str(told.value)
    assert "went to another stage" not in str(told.value)
    with pytest.raises(Fault, match=r"give it some: 'data\.sources\.mine\.stages=\[pretrain\]'"):
        corpus.examples("pretrain", "train")


# the built-in world


def demo(seed: int = 1, cap: int = 50, **others: SourceConfig) -> Corpus:
    return load(mix(0.1, demo=source("world", cap=cap, kind="world"), **others), seed, None)


def test_the_world_gives_each_stage_its_own_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "HELD_OUT", 30)
    corpus, town = demo(), world.World()
    for stage, count in (("sft", 50), ("rm", 50)):
        assert len(corpus.examples(stage, "train")) == count
        assert len(corpus.examples(stage, "held_out")) == 30
    assert len(prompts(corpus, "ppo", "train")) == len(corpus.examples("ppo", "train")) <= 50
    for stage, split in PLACES:
        for example in corpus.examples(stage, split):
            assert town.is_held_out(example.turns[-1].text) is (split == "held_out")
            assert (example.probability is not None) is (stage == "rm")
    assert train(corpus, "sft") != train(corpus, "rm")


def test_the_world_is_drawn_with_the_seed_but_every_seed_sits_the_same_exam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "HELD_OUT", 30)
    one, again, other = demo(1), demo(1), demo(2)
    assert one.parts == again.parts and one.digest == again.digest
    assert one.digest != other.digest != demo(2, cap=51).digest
    for stage in STAGES:
        assert one.parts[stage, "train"] != other.parts[stage, "train"]
        assert one.parts[stage, "held_out"] == other.parts[stage, "held_out"]
    monkeypatch.setattr(world, "VERSION", "another")
    assert demo(1).digest != one.digest


def test_the_gold_reward_is_known_only_where_every_source_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "HELD_OUT", 30)
    corpus = demo()
    assert corpus.gold is not None
    example = corpus.examples("sft", "held_out")[0]
    assert example.response is not None
    assert corpus.gold(example.turns, example.response) == world.World().gold(example.turns[0].text, example.response)
    assert corpus.gold(example.turns, "") < corpus.gold(example.turns, example.response)
    assert demo(mine=source(write(tmp_path / "a.jsonl", pairs(9)))).gold is None


def test_max_train_examples_keeps_some_of_the_training_examples_and_all_held_out_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", pairs(200))
    whole, few = (load(mix(most=most, mine=source(path)), 1, None) for most in (None, 5))
    for stage in STAGES:
        assert len(few.parts[stage, "train"]) == 5 and prompts(few, stage, "train") < prompts(whole, stage, "train")
        assert prompts(few, stage, "held_out") == prompts(whole, stage, "held_out")
    assert few.digest != whole.digest
