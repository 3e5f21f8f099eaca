"""The page of a study and the verb that makes it: of made folders, and of a study with fake trials."""

import fcntl
import json
import re
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeps.answer import command, folder, page, refresh
from sweeps.answer.tracks import Tracks
from tests.sweeps import made

Study = Callable[..., int]


class Tags(HTMLParser):
    """The tags of a page, the attributes of each, and the text of its sections by their headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>([^<]*)</h2>", text)


def test_a_search_of_many_trials_shows_the_best_and_folds_the_others(tmp_path: Path) -> None:
    study = folder.read(made.study(tmp_path, 120))
    text = page.render(study)
    assert headings(text) == [
        "The answer",
        "All cells",
        "Pareto front: eval/loss × perf/tokens_per_second × mem/peak_gib × cost/usd",
        "Which keys matter",
        "From settings to outcome",
        "eval/loss against each key",
        "Learning curves",
        "What ran when",
        "What went wrong",
        "The study",
    ]
    open_rows, folded = text[text.index("All cells") :].split("<details><summary>95 more</summary>")
    rows = [len(re.findall(r'<tr class="[^"]*">\s*<td>\d{4}</td>', part)) for part in (open_rows, folded)]
    assert rows == [page.OPEN, 95]
    best = min((each for each in study.trials if each.is_good), key=lambda each: each.measured["eval/loss"])
    assert f"reproduce {tmp_path}/runs/sft-tiny-{best.number:04d}" in text
    assert text.count('class="stay ') == 121  # each run and the parent
    assert "default-src 'none'" in text and not {"script", "link", "img", "iframe"} & {tag for tag, _ in Tags(text).tags}


def test_few_trials_make_a_page_without_what_they_cannot_tell(tmp_path: Path) -> None:
    text = page.render(folder.read(made.study(tmp_path, 4)))
    assert "needs 10 finished trials; there are 2" in text and "more</summary>" not in text


def test_only_outcomes_stand_in_the_column_of_an_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trial that broke has measured something before it began to learn, which looked like the best of all."""
    place = tmp_path / "studies/made"
    trials = [made.trial(0, {"a": 0}), made.trial(1, {"a": 1}, "failed", "nan"), made.trial(2, {"a": 2}, "pruned")]
    for each, loss in zip(trials, [2.25, 0.125, 3.5], strict=True):
        made.put(place, each, {"eval/loss": loss, "eval/loss_low": loss - 1}, peak_memory_gib=7.5)
    space = [{"key": "a", "name": "a", "values": [0, 1, 2]}]
    (place / "study.json").write_text(json.dumps(made.book(trials=trials, space=space)))
    assert command.main([str(place)]) == 0
    said, text = capsys.readouterr().out, (place / "report.html").read_text()
    (failed,) = [line for line in said.splitlines() if line.split()[:1] == ["0001"]]
    assert "0.125" not in failed and "7.5" in failed and "0.125" not in text
    assert "3.5 when pruned" in said and '3.5 <span class="note">when pruned</span>' in text
    assert "2.25 when pruned" not in said


def test_no_text_of_a_study_becomes_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\u202e"
    place = tmp_path / "studies" / "made"
    place.mkdir(parents=True)
    ends = [("finished", ""), ("finished", ""), ("failed", evil)]
    trials = [made.trial(at, {"a": f"{evil}{at}"}, *end) for at, end in enumerate(ends)]
    for each in trials:
        made.put(place, each, {"eval/loss": 1.0 + each["number"]}, evil, [3.0, 2.0, 1.0])
    stays = [made._stay(f"parents/{evil}", made.BEGAN, made.BEGAN + 5, "finished", evil)]
    space = [{"key": "a", "name": evil, "values": [f"{evil}{at}" for at in range(3)]}]
    about = {"fixed": [f"b={evil}"], "words": [evil], "left_out": {evil: 2}, "settings": {evil: evil}, "model": evil}
    (place / "study.json").write_text(json.dumps(made.book(trials=trials, runs=stays, space=space, constraints=[], **about)))
    text = page.render(folder.read(place))
    assert "img" not in {tag for tag, _ in Tags(text).tags} and "\u202e" not in text
    assert not [name for _, attributes in Tags(text).tags for name in attributes if name.startswith("on")]
    assert text.count("&lt;img") > 10


def test_a_study_that_has_just_begun_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "studies/made"
    place.mkdir(parents=True)
    stay = {**made._stay("parents/rm-abc", made.BEGAN, made.BEGAN), "ended": None, "status": "running"}
    (place / "study.json").write_text(json.dumps(made.book(runs=[stay])))
    text = page.render(folder.read(place, running=True))
    assert "No trial has finished." in text and re.search(r"parents at work</dt><dd>rm-abc<", text)


def test_the_view_is_live_until_the_study_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made.study(tmp_path, 3)
    looks: list[bool] = []
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def sleep(seconds: float) -> None:
            looks.append(folder.read(place).is_running)
            if len(looks) == 2:
                fcntl.flock(lock, fcntl.LOCK_UN)

        monkeypatch.setattr(command.time, "sleep", sleep)
        study = command._watch(folder.read(place), Tracks())
    assert looks == [True, True] and not study.is_running


def test_the_page_of_a_study_is_there_when_it_ends_and_the_verb_makes_it_anew(
    run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study("sft.learning_rate=1e-3,2e-3,1e30", "sweep.constraints=['eval/loss >= 0.15']")
    place = tmp_path / "studies/s"
    assert f"report: {place}/report.html" in capsys.readouterr().out
    text = (place / "report.html").read_text()
    assert "complete" in text and "failed (nan)" in text and "not eval/loss &gt;= 0.15" in text
    (place / "report.html").unlink()
    assert command.main([str(place)]) == 0
    said = capsys.readouterr().out
    assert (place / "report.html").is_file() and f"report: {place}/report.html" in said
    assert "best eval/loss: 0.2 in 0001: sft.learning_rate=0.002" in said and "1 failed (nan): 0002" in said
    assert "not told, needs 10 finished trials" in said


def test_a_screening_shows_its_effects(run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study("sweep.mode=screen", "sft.learning_rate=1e-3,2e-3", "sft.warmup_steps=0,1", "sweep.parallel=4")
    capsys.readouterr()
    assert command.main([str(tmp_path / "studies/s")]) == 0
    said = capsys.readouterr().out
    assert "effect of sft.learning_rate 0.001 -> 0.002: +0.1\n" in said and "no intervals: one run a setting" in said
    text = (tmp_path / "studies/s/report.html").read_text()
    assert "<h2>Effects</h2>" in text and "no intervals: one run a setting" in text


def test_many_trials_are_cut_short_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(made.study(tmp_path, 60))]) == 0
    said = capsys.readouterr().out
    assert "and 30 more, in report.html and trials.csv" in said and "importance for eval/loss (the best" in said


def test_a_terminal_sees_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "studies/made"
    place.mkdir(parents=True)
    each = made.trial(0, {"a": "x\x1b[2J"}, "failed", "crash")
    made.put(place, each, {}, "boo\x1b[2J")
    (place / "study.json").write_text(json.dumps(made.book(trials=[each])))
    assert command.main([str(place)]) == 0
    assert "\x1b[2J" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no/such/study"]])
def test_the_verb_says_what_it_needs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert "study" in capsys.readouterr().err


def test_the_verb_names_the_studies_of_an_outputs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.study(tmp_path, 1)
    assert command.main([str(tmp_path)]) == 2
    assert str(tmp_path / "studies/made") in capsys.readouterr().err


def test_a_page_that_cannot_be_written_warns_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.study(tmp_path, 1)
    written = threading.Event()

    def fail(study: object) -> None:
        written.set()
        raise ValueError("no such colour")

    monkeypatch.setattr(page, "write", fail)
    with refresh.Refresher(tmp_path / "studies/made") as refresher:
        refresher.poke()
        assert written.wait(60)
    assert capsys.readouterr().err == "no new report.html (ValueError: no such colour); the study goes on\n"


def test_a_refresher_writes_at_the_end_for_sure(tmp_path: Path) -> None:
    place = made.study(tmp_path, 2)
    with refresh.Refresher(place):
        pass
    assert "complete" in (place / "report.html").read_text()
