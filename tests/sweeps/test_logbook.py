"""``study.json`` of studies with fake trials, and of times by hand."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from rlhf.config import Run, Sampler
from rlhf.result import Objective, Result, Status
from sweeps import logbook
from sweeps.goal import Goal
from sweeps.logbook import Logbook
from sweeps.record import Entry, Record
from sweeps.space import Space
from sweeps.trials import Trials

Study = Callable[..., int]
DONE = Result(Status.finished, "sft", "tiny", "r", "s")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that shows 0, 10, 20, ..."""
    ticks: Iterator[float] = iter(range(0, 1000, 10))
    monkeypatch.setattr(logbook, "CLOCK", lambda: float(next(ticks)))


def test_a_study_tells_its_goal_its_space_its_trials_and_when_they_ran(run_study: Study, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e-3,1e30", "sweep.constraints=['mem/peak_gib <= 40']", "seed=3")
    book = json.loads((tmp_path / "studies/s/study.json").read_text())
    assert (book["stage"], book["mode"], book["planned"], book["seeds"]) == ("sft", "characterize", 2, [3])
    assert book["objectives"] == [{"metric": "eval/loss", "direction": "minimize"}]
    assert book["constraints"] == ["mem/peak_gib <= 40"]
    assert book["space"] == [{"key": "sft.learning_rate", "name": "sft.learning_rate", "values": [0.001, 1e30]}]
    assert book["fixed"] == ["seed=3"] and "sft.learning_rate=1e-3,1e30" in book["words"]
    ends = [(each["number"], each["point"], each["status"], each["reason"]) for each in book["trials"]]
    assert ends == [(0, {"sft.learning_rate": 0.001}, "finished", ""), (1, {"sft.learning_rate": 1e30}, "failed", "nan")]
    stays = [(each["folder"], each["status"]) for each in book["runs"]]
    assert stays == [("trials/0000", "finished"), ("trials/0001", "failed")]
    (session,) = book["sessions"]
    assert all(session["began"] <= each["began"] < each["ended"] <= session["ended"] for each in book["runs"])
    run_study("sft.learning_rate=1e-3,1e30,2e-3", "sweep.constraints=['mem/peak_gib <= 40']", "seed=3")
    book = json.loads((tmp_path / "studies/s/study.json").read_text())
    assert (len(book["sessions"]), len(book["trials"]), len(book["runs"]), book["planned"]) == (2, 3, 3, 3)


def test_seeds_have_stays_of_their_own(run_study: Study, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e-3", "sweep.seeds=2")
    book = logbook.read(tmp_path / "studies/s")
    assert [each["folder"] for each in book["runs"]] == ["trials/0000/1", "trials/0000/2"]


def test_a_run_that_waited_for_room_began_later(times: None, tmp_path: Path) -> None:
    book = Logbook(tmp_path, {}, list)
    book.started(tmp_path / "trials/0000")
    book.ended(tmp_path / "trials/0000", DONE, 4.0)
    book.close()
    assert logbook.read(tmp_path)["runs"] == [
        {"folder": "trials/0000", "began": 16.0, "ended": 20.0, "status": "finished", "reason": "", "usd_per_second": None}
    ]


def test_a_trial_that_was_lost_took_the_time_to_its_last_sign(times: None, tmp_path: Path) -> None:
    goal = Goal((Objective("eval/loss", "minimize"),), ())
    record = Record(tmp_path, None, Space((), (), (), {}), goal, Sampler.random, 1)
    trials = Trials(tmp_path, record, goal, [1])
    record.begin(0, "d", [], {})
    log = tmp_path / "trials/0000/log.txt"
    log.parent.mkdir(parents=True)
    log.touch()
    Logbook(tmp_path, {}, list).started(log.parent)  # at 10
    os.utime(log, (510.0, 510.0))
    hardware = SimpleNamespace(usd_per_hour=3.6)
    run = SimpleNamespace(stage="sft", model=SimpleNamespace(name="tiny"), seed=1, ranks=2, hardware=hardware)
    trials.settle(cast(Run, run))
    ((_, lost),) = trials.ended()
    assert (lost.status, lost.seconds, lost.cost_usd) == (Status.lost, 500.0, pytest.approx(1.0))


def test_what_ran_when_a_sweeper_died_is_lost_and_another_run_of_it_is_another_stay(times: None, tmp_path: Path) -> None:
    entry = Entry(0, 0, "d", ["a=1"], {"a": 1}, "running", "")
    changes: list[int] = []
    for _ in range(2):
        book = Logbook(tmp_path, {"mode": "tune"}, lambda: [entry])
        book.changed = lambda: changes.append(1)
        book.started(tmp_path / "trials/0000")
    read = logbook.read(tmp_path)
    assert [(each["status"], each["ended"]) for each in read["runs"]] == [("lost", 10.0), ("running", None)]
    assert (read["mode"], read["trials"][0]["point"], len(changes)) == ("tune", {"a": 1}, 2)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_torn_book_is_an_empty_one(content: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(content)
    assert logbook.read(tmp_path) == {}
