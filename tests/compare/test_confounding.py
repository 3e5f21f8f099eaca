"""What sets runs apart, and whether that is what was meant."""

from pathlib import Path

import pytest

from rlhf.compare import comparison, find
from rlhf.compare.comparison import Comparison
from rlhf.fault import Fault
from rlhf.lineage import READS
from rlhf.stages.table import TABLE
from tests.compare.made import run

KL, RATE = "ppo.kl_coef", "ppo.learning_rate"


def compared(*folders: Path, about: tuple[str, ...] = ()) -> Comparison:
    subjects, notes = find.subjects([str(folder) for folder in folders], None)
    return comparison.compare(subjects, notes, about)


def test_one_setting_is_what_it_is_about(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a"), run(tmp_path / "b", {KL: 0.2, "ppo.micro_batch_size": 2}))
    assert found.verdict.sentence == "They differ in ppo.kl_coef (0.1, 0.2) alone."
    assert [(each.key, each.affects) for each in found.settings] == [(KL, "result"), ("ppo.micro_batch_size", "system")]
    assert any("hang on ppo.micro_batch_size" in each for each in found.remarks)


def test_several_confound_each_other_unless_one_is_meant(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a"), run(tmp_path / "b", {KL: 0.2, RATE: 1e-3})
    assert [each.key for each in compared(one, two).verdict.confounding] == [KL, RATE]
    found = compared(one, two, about=(KL,))
    assert found.verdict.sentence == "About ppo.kl_coef; confounded by ppo.learning_rate (0.0001, 0.001)."
    assert compared(one, two, about=(KL, RATE)).verdict.confounding == []


def test_what_is_asked_about_must_differ(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a"), run(tmp_path / "b", {KL: 0.2})
    with pytest.raises(Fault, match=r"--about ppo.learning_rate: is the same in all of them \(0.0001\)"):
        compared(one, two, about=(RATE,))
    with pytest.raises(Fault, match="did you mean ppo.kl_coef"):
        compared(one, two, about=("ppo.kl_coeff",))


def test_a_stage_is_set_apart_by_what_it_reads(tmp_path: Path) -> None:
    others = {"ppo.kl_coef": 0.2, "rm.epochs": 3.0, "tracker.project": "x", "model.usual.sft": "y"}
    found = compared(run(tmp_path / "a", stage="sft"), run(tmp_path / "b", others, stage="sft"))
    assert found.settings == [] and "No setting differs" in found.verdict.sentence
    assert "rm.epochs" in compared(run(tmp_path / "c"), run(tmp_path / "d", {"rm.epochs": 3.0})).verdict.sentence


def test_runs_of_two_stages_are_said_to_be_that_whatever_else_differs(tmp_path: Path) -> None:
    policy = run(tmp_path / "a", stage="sft")
    same = compared(policy, run(tmp_path / "b")).verdict.sentence
    assert same == "They are of 2 stages, sft and ppo. No setting differs that both read."
    other = compared(policy, run(tmp_path / "c", {"model.layers": 7})).verdict.sentence
    assert other.startswith("They are of 2 stages, sft and ppo. They differ in model")


def test_a_parent_brought_along_takes_the_place_of_its_settings(tmp_path: Path) -> None:
    brought = {"parents.sft": "elsewhere", "sft.epochs": 5.0}
    one = run(tmp_path / "a", {"parents.sft": "there"}, parents={"sft": "1" * 16})
    found = compared(one, run(tmp_path / "b", brought, parents={"sft": "2" * 16}))
    assert [each.key for each in found.verdict.meant] == ["parent sft"]


def test_an_option_is_one_difference_and_typed_keys_are_their_own(tmp_path: Path) -> None:
    sizes = {"model.name": "big", "model.arch.layers": 9, "model.dropout": 0.1}
    one = run(tmp_path / "a", {"model.arch.layers": 3, "model.dropout": 0.0}, told=["model=tiny"])
    found = compared(one, run(tmp_path / "b", sizes, told=["model=big", "model.dropout=0.1"]))
    assert [each.key for each in found.verdict.confounding] == ["model", "model.dropout"]
    assert found.verdict.confounding[0].values == ["tiny", "big"]


def test_keys_that_came_since_are_no_difference(tmp_path: Path) -> None:
    later = {"ppo.entropy_coef": 0.1, "data.sources.more.path": "x.jsonl"}
    assert [each.key for each in compared(run(tmp_path / "a"), run(tmp_path / "b", later)).settings] == [
        "data.sources.more.path"
    ]


def test_other_exams_judges_and_seeds_are_said(tmp_path: Path) -> None:
    one = run(tmp_path / "a", metrics={"reward/gain": 1.0}, parents={"rm": "1" * 16})
    exam = run(tmp_path / "b", {"evaluation.prompts": 8}, metrics={"reward/gain": 2.0}, parents={"rm": "1" * 16})
    found = compared(one, exam)
    assert found.remarks[0] == "A and B sat different exams (evaluation.prompts): held-out metrics are not comparable."
    assert found.measures[0].differences[0].verdict == "not comparable"
    judge = run(tmp_path / "c", {"rm.epochs": 2.0}, metrics={"reward/gain": 2.0}, parents={"rm": "2" * 16})
    assert "scored by different judges (rm.epochs, another reward model)" in compared(one, judge).remarks[0]
    sown = run(tmp_path / "d", {"seed": 2, KL: 0.2}, metrics={"reward/gain": 2.0}, parents={"rm": "1" * 16})
    found = compared(one, sown)
    assert "confounded by the others: ppo.kl_coef (0.1, 0.2) and seed (1, 2)" in found.verdict.sentence
    assert any("chance between seeds" in each for each in found.remarks)


def test_data_that_changed_under_the_same_name_confounds(tmp_path: Path) -> None:
    one = run(tmp_path / "a", environment={"data_digest": "1" * 64, "device": "CPU x"})
    two = run(tmp_path / "b", {KL: 0.2}, environment={"data_digest": "2" * 64, "device": "CPU y"})
    found = compared(one, two)
    assert [each.key for each in found.verdict.confounding] == [KL, "data digest"]
    assert [each.key for each in found.facts] == ["data digest", "device"]


def test_equal_signatures_are_said(tmp_path: Path) -> None:
    one = run(tmp_path / "a", signature="s")
    found = compared(one, run(tmp_path / "b", {"zero": "2"}, signature="s"))
    assert "cannot change the weights beyond rounding; their result signatures are equal" in found.verdict.sentence


def test_every_stage_is_handed_what_the_table_says() -> None:
    assert {name: kind.reads for name, kind in TABLE.items()} == READS
