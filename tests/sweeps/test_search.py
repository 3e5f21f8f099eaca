"""Studies that search and keep to limits, with fake trials."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from rlhf.config import Sampler
from rlhf.constraint import Constraint
from rlhf.price import SECONDS_AN_HOUR
from rlhf.result import Objective, Result, Status
from sweeps import limits, logbook, screening
from sweeps.goal import Goal
from sweeps.record import Entry, Record
from sweeps.space import Choices, Dimension, Interval, Space

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]

TUNE = ("sweep.mode=tune", "sweep.sampler=random", "sft.learning_rate=tag(log,interval(1e-5,1e-1))")
CMAES = (TUNE[0], "sweep.sampler=cmaes", TUNE[2], "sft.warmup_steps=range(0,9)", "sweep.trials=4", "sweep.parallel=1")


def test_a_search_ends_at_its_total_and_goes_on_to_a_larger_one(
    run_study: Study, rows: Rows, ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study(*TUNE, "sweep.trials=3") == 0
    assert len(ran()) == len(rows()) == 3
    assert run_study(*TUNE, "sweep.trials=3") == 0
    assert len(ran()) == 3
    assert run_study(*TUNE, "sweep.trials=5") == 0
    assert len({*ran()}) == len(ran()) == 5  # nothing is proposed twice, after a restart either
    assert [row["number"] for row in rows()] == ["0000", "0001", "0002", "0003", "0004"]
    best = min(ran())
    assert f"best eval/loss: {best * 100:.4g}" in capsys.readouterr().out


def test_the_sampler_learns(run_study: Study, ran: Ran) -> None:
    run_study("sweep.mode=tune", "sft.learning_rate=tag(log,interval(1e-6,1))", "sweep.trials=24", "sweep.parallel=2")
    first, last = ran()[:10], ran()[-8:]
    assert sorted(last)[4] < sorted(first)[5] / 10  # TPE draws ten at random, then goes where it is good


def test_cma_es_searches_after_its_first_trial_too(run_study: Study, ran: Ran) -> None:
    assert run_study(*CMAES) == 0
    assert len(ran()) == 4


def test_a_finite_space_is_never_searched_twice(run_study: Study, ran: Ran) -> None:
    assert run_study(*TUNE[:2], "sft.learning_rate=1e-3,2e-3,3e-3", "sweep.trials=9") == 0
    assert sorted(ran()) == [1e-3, 2e-3, 3e-3]


def test_the_last_lines_of_a_search_advise_nothing_that_it_refuses(
    run_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sweep.mode=tune", "sweep.trials=1", "sft.learning_rate=1e30", "sft.weight_decay=0,0.1")
    assert run_study(*command) == 0
    said = capsys.readouterr().out
    assert "failed or did not fit: 0000" in said and "fresh" not in said
    assert run_study(*command, "fresh=true") == 2


def test_what_needs_more_of_everything_than_a_cell_that_ran_out_of_memory_is_not_run(
    run_study: Study, rows: Rows, ran: Ran
) -> None:
    axes = ("sft.micro_batch_size=512,256,4", "sft.gradient_checkpointing=true,false", "sft.batch_size=512", "sweep.parallel=1")
    assert run_study(*axes) == 0
    ends = {(row["sft.micro_batch_size"], row["sft.gradient_checkpointing"]): row["reason"] for row in rows()}
    assert [*ends] == [("4", "true"), ("256", "true"), ("4", "false"), ("512", "true"), ("256", "false"), ("512", "false")]
    assert [*ends.values()] == ["", "oom", "", "dominated by #1", "dominated by #1", "dominated by #1"]
    assert len(ran()) == 3
    run_study(*axes)
    assert len(ran()) == 3


SIZES = ("sft.batch_size=512", "sft.learning_rate=1e-3", "sweep.parallel=1")


@pytest.mark.parametrize("again", ["deleted", "fresh=true", "one"])
def test_what_ran_out_of_memory_is_run_again_when_asked_for(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, again: str
) -> None:
    """With more memory it fits, and so may what was settled by it."""
    command = ("sft.micro_batch_size=4,256,512", *SIZES)
    run_study(*command)
    assert [row["reason"] for row in rows()] == ["", "oom", "dominated by #1"]
    (tmp_path / "memory").write_text("256")
    numbers = {"deleted": ("0001", "0002"), "fresh=true": (), "one": ("0001",)}[again]
    for number in numbers:
        shutil.rmtree(tmp_path / "studies/s/trials" / number)
    assert run_study(*command, *(() if numbers else (again,))) == 0
    assert [row["status"] for row in rows()] == ["finished", "finished", "infeasible"]
    assert rows()[2]["reason"] == "oom" and len(ran()) == 2 + (2 if numbers else 3)


def test_a_search_runs_again_what_ran_out_of_memory_and_what_that_settled(run_study: Study, rows: Rows, tmp_path: Path) -> None:
    command = ("sweep.mode=tune", "sweep.trials=3", "sft.micro_batch_size=4,256,512", *SIZES)
    run_study(*command)
    before = {row["sft.micro_batch_size"]: row["reason"] for row in rows()}
    assert before["256"] == "oom" and before["4"] == ""
    (tmp_path / "memory").write_text("512")
    for row in rows():
        if row["reason"] == "oom":
            shutil.rmtree(tmp_path / "studies/s/trials" / row["number"])
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["finished"] * 3


def test_a_sampler_hears_of_a_point_again_as_it_heard_first(tmp_path: Path) -> None:
    """One that was proposed twice and did not fit violates its constraint twice."""
    space = Space((Dimension("sft.micro_batch_size", "sft.micro_batch_size", Choices((256,))),), (), (), {})
    goal = Goal((Objective("eval/loss", "minimize"),), ())
    record = Record(tmp_path, None, space, goal, Sampler.random, 1)
    first = record.propose()
    entry = record.begin(0, "d", [], first.point, first)
    record.end(entry, Result(Status.infeasible, "sft", "tiny", "r", "s", reason="oom"))
    record.pass_over(record.propose(), entry)
    told = optuna.load_study(study_name=tmp_path.name, storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert [(each.state.name, each.constraints) for each in told] == [("PRUNED", {"fits": 1.0})] * 2


@pytest.mark.parametrize("sampler", [Sampler.tpe, Sampler.nsga2])
def test_a_constraint_on_what_came_out_as_no_number_ends_no_search(tmp_path: Path, sampler: Sampler) -> None:
    space = Space((Dimension("x", "x", Interval(0.0, 1.0, False, False)),), (), (), {})
    goal = Goal((Objective("eval/loss", "minimize"),), (Constraint.parse("eval/kl <= 10"),))
    record = Record(tmp_path, None, space, goal, sampler, 1)
    for number in range(12):  # from ten trials on they are learnt from
        proposal = record.propose()
        entry = record.begin(number, str(number), [], proposal.point, proposal)
        kl = (math.nan, math.inf, -math.inf, 1.0)[number % 4]
        metrics = {"eval/loss": proposal.point["x"], "eval/kl": kl}
        record.end(entry, Result(Status.finished, "sft", "tiny", "r", "s", metrics=metrics))
    told = optuna.load_study(study_name=tmp_path.name, storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert [each.constraints["eval/kl <= 10"] for each in told[:4]] == [1.0, math.inf, -math.inf, -9.0]


def proposals(folder: Path, sampler: Sampler, *sessions: int) -> list[float]:
    """What is run when a study goes on in so many sessions of so many trials, the last of each cut off and begun again."""
    space = Space((Dimension("x", "x", Interval(0.0, 1.0, False, False)),), (), (), {})
    goal = Goal((Objective("eval/loss", "minimize"),), ())
    folder.mkdir()
    seen: list[float] = []
    for count in sessions:
        record = Record(folder, None, space, goal, sampler, 1)

        def end(entry: Entry, status: Status, record: Record = record) -> None:
            loss = (entry.point["x"] - 0.3) ** 2
            record.end(entry, Result(status, "sft", "tiny", "r", "s", metrics={"eval/loss": loss}))

        for entry in [each for each in record.entries().values() if each.status == "stopped"]:
            end(record.begin(entry.number, entry.digest, [], entry.point), Status.finished)
        for number in range(len(seen), count):
            proposal = record.propose()
            seen.append(proposal.point["x"])
            cut_off = number == count - 1 and count < sessions[-1]
            end(
                record.begin(number, str(number), [], proposal.point, proposal),
                Status.stopped if cut_off else Status.finished,
            )
    return seen


@pytest.mark.parametrize("sampler", [Sampler.random, Sampler.tpe])
def test_a_search_proposes_the_same_however_often_it_was_resumed(tmp_path: Path, sampler: Sampler) -> None:
    whole = proposals(tmp_path / "whole", sampler, 14)
    assert len({*whole}) == 14 and proposals(tmp_path / "parts", sampler, 3, 12, 14) == whole


def test_combinations_that_break_a_rule_are_left_out_and_named(
    run_study: Study, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study("zero=0,3", "offload=none,all", "sft.learning_rate=1e-3") == 0
    assert [(row["zero"], row["offload"]) for row in rows()] == [("3", "all"), ("0", "none"), ("3", "none")]
    assert "left out, 1 of the combinations: offload=all" in capsys.readouterr().out


def test_no_trial_begins_beyond_the_budget(run_study: Study, ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("sweep.max_hours=1e-9", "sweep.parallel=1")
    assert run_study(*TUNE, *limits) == 0
    assert len(ran()) == 1
    assert "sweep.max_hours=1e-09 are spent (0.00)" in capsys.readouterr().out


def test_a_budget_is_spent_on_places_and_not_on_what_runs_say_of_themselves(
    run_study: Study, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was lost has been paid for, also once it has been run again."""
    command = ("sft.learning_rate=1e7", "hardware.usd_per_hour=1e6", "sweep.parallel=1")
    assert run_study(*command) == 0
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    lost, again = logbook.read(tmp_path / "studies/s")["runs"]
    price = 1e6 / SECONDS_AN_HOUR
    both = sum(each["ended"] - each["began"] for each in (lost, again)) * price
    assert run_study(command[0], "sft.weight_decay=0,0.1", *command[1:], f"sweep.max_usd={both * 0.999}") == 0
    assert len(ran()) == 2 and f"are spent (${both:.2f})" in capsys.readouterr().out


def test_trials_that_crash_spend_the_budget_too(run_study: Study, rows: Rows) -> None:
    limits = ("sweep.max_usd=1", "hardware.usd_per_hour=1e6", "sweep.parallel=1")
    assert run_study("sft.learning_rate=1e8", "sft.weight_decay=0,0.1,0.2", *limits) == 0
    assert [(row["status"], float(row["cost_usd"]) > 1) for row in rows()] == [("failed", True)]


def test_a_study_of_which_nothing_comes_gives_up(
    run_study: Study, rows: Rows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "FUTILE", 2)
    command = ("sft.learning_rate=1e30", "sft.weight_decay=0,0.1,0.2,0.3,0.4", "sweep.parallel=1")
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["failed"] * 2
    said = capsys.readouterr().out
    assert "the last 2 trials failed in the same way (nan) and none has finished; see " in said
    assert "mend it, and the same command goes on" in said
    run_study(*command)
    assert len(rows()) == 4
    run_study("sft.learning_rate=1e-3", "sft.weight_decay=0")
    run_study("sft.learning_rate=2e30", "sft.weight_decay=0,0.1,0.2")  # others have shown that it can be done
    assert len(rows()) == 8


def test_a_best_point_keeps_its_constraints(run_study: Study, capsys: pytest.CaptureFixture[str], rows: Rows) -> None:
    axes = ("sft.learning_rate=1e-3", "sft.micro_batch_size=1,4", "sft.batch_size=16")
    assert run_study(*axes, "sweep.objective=[eval/loss,time/seconds]", "sweep.constraints=['mem/peak_gib <= 2']") == 0
    assert [row["message"] for row in rows()] == ["", "not mem/peak_gib <= 2"]
    said = capsys.readouterr().out
    assert "0000 eval/loss 0.1, time/seconds 1.5" in said and "0001 eval/loss" not in said.split("better in every")[1]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("sweep.mode=tune", "sft.learning_rate=1,2"), "has no end; set sweep.trials"),
        (("sweep.mode=tune", "sweep.trials=2", "sft.learning_rate=1"), "has no dimension to search"),
        (("sweep=tune_sft", "sweep.mode=characterize"), "1 fault in"),  # of two conditions under which the key has a range
        (("sweep.max_usd=3", "sft.learning_rate=1,2"), "no price is known"),
        (
            ("sweep.max_usd=3", "hardware=cpu", "seed=1,2"),
            "an hour costs 0, so they are never spent; set hardware.usd_per_hour",
        ),
        (("sweep.storage='postgresql://me:secret@host/db'", "seed=1,2"), "holds a password"),
        (("sweep.objective=[response/length_mean]", "seed=1,2"), "say which way is better"),
        (("sweep.objective=[maximize evl/loss]", "seed=1,2"), "no run of stage=sft measures it; did you mean eval/loss?"),
        (("sweep.objective=[eval/accuracy]", "seed=1,2"), "no run of stage=sft measures it"),
        (("sweep.constraints=['mem/peak_gb <= 40']", "seed=1,2"), "did you mean mem/peak_gib?"),
        (("sweep.constraints=[much]", "seed=1,2"), "write a metric"),
        ((*CMAES, "sweep.objective=[eval/loss,cost/usd]"), "sweep.sampler=cmaes: follows one objective, and there are 2"),
        ((*CMAES, "sweep.constraints=['mem/peak_gib <= 4']"), "sweep.sampler=cmaes: does not hear of constraints"),
        ((*TUNE, "sweep.sampler=cmaes", "seed=1,2", "sweep.trials=2"), "there is sft.learning_rate; use sweep.sampler=tpe"),
        (("sweep.seeds=0", "seed=1,2"), "sweep.seeds=0: must be at least 1"),
        (("sweep.seeds=2", "seed=1,5"), "sweep.seeds=2: each trial runs under that many seeds, so seed=1,5 cannot be swept"),
    ],
)
def test_settings_of_a_study_are_checked(
    run_study: Study, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert run_study(*overrides) == 2
    found = capsys.readouterr().err
    assert said in found and "Traceback" not in found
    assert not (tmp_path / "studies").exists()


def test_a_screening_tells_the_effect_of_each_switch(run_study: Study, ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    switches = ("sft.weight_decay=0,0.1", "sft.learning_rate=1e-3,2e-3", "sft.adam_eps=1e-8,1e-6")
    assert run_study("sweep.mode=screen", *switches) == 0
    said = capsys.readouterr().out.split("against the first:\n")[1].splitlines()
    assert said[0].strip() == "sft.learning_rate 0.001 -> 0.002: +0.1"
    assert said[3] == screening.UNTOLD  # three switches and one seed
    assert len(ran()) == 8  # a design of four runs and its mirror
    assert run_study("sweep.mode=screen", "sft.weight_decay=0,0.1", "zero=0,3", "offload=none,all", "sweep.name=t") == 2
    assert "a screening needs them all" in capsys.readouterr().err


# parents
