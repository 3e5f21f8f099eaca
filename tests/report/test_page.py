"""The page of a run: nothing in it can run or reach out, every end has one, and it never costs a run anything."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.report import page
from rlhf.result import Result, Status
from tests.stages import small

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)> \"'&{{ 7*7 }} \u202egnp.exe \x1b[31m"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a PPO run in which every text is hostile."""
    path = tmp_path / "runs" / "ppo-tiny-0123abcd"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("model: {name: '<b>x</b>'}\n")
    (path / "overrides.txt").write_text(f"model=tiny\nmodel.name={NASTY}\n")
    ends = {"reward/gain": 1.5, "reward/gain_low": 1.25, "reward/gain_high": 1.75, f"eval/{NASTY}": 1.0}
    rows = [
        {"round": 0, "kind": "eval", "seconds": 1.0, "reward/gain": 0.0, "time/evaluate_s": 1.0},
        {
            "round": 1,
            "kind": "train",
            "seconds": 2.0,
            "loss": 0.5,
            "time/rollout_s": 3.0,
            "time/train_s": 1.0,
            "mem/rollout_gib": 0.75,
        },
        {"round": 2, "kind": "train", "seconds": 3.0, "loss": 0.25, f"policy/{NASTY}": 1.0},
        {"round": 2, "kind": "eval", "seconds": 4.0, **ends},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"round": 3, "ki')
    samples = [{"round": at, "prompt": NASTY, "response": f"{NASTY} {at}", "score": at / 2} for at in (0, 2)]
    (path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    scores = [{"round": at, "score": [0.0 + at, 1.0 + at, "nan"]} for at in (0, 2, 2)]
    (path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    result = Result(Status.finished, "ppo", NASTY, "0123abcd", "a" * 16, metrics=ends, seconds=10.0, parents={"sft": "b" * 16})
    (path / "result.json").write_text(result.to_json())
    return path


def html(folder: Path) -> str:
    return page.write(folder).read_text()


def test_texts_of_a_run_are_shown_and_never_run(folder: Path) -> None:
    text = html(folder)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"<script|<img|<iframe|javascript:|<b>x", text)
    assert "{{ 7*7 }}" in text  # a text is no template
    assert "\u202e" not in text and "\x1b" not in text and "⟨U+202E⟩" in text


def test_the_page_needs_nothing_from_elsewhere(folder: Path) -> None:
    tags: dict[str, set[str]] = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            tags.setdefault(tag, set()).update(name for name, _ in attributes)

    text = html(folder)
    Reader().feed(text)
    assert "section" in tags and "svg" in tags
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(tags)
    assert not {name for names in tags.values() for name in names if name in ("src", "srcset") or name.startswith("on")}
    assert "http-equiv" in tags["meta"] and "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text)


def test_answers_stand_before_beside_after(folder: Path) -> None:
    text = html(folder)
    before, after = text.index("SFT policy <"), text.index("after PPO <")
    assert before < after and "score 0<" in text[before:after] and "score 1<" in text[after:]


def test_the_distribution_takes_each_round_once_and_finite_scores_only(folder: Path) -> None:
    (drawn,) = page.contents(page.read(folder))["distributions"]
    assert [(name, mean) for name, mean, _ in drawn[3]] == [("SFT policy", 0.5), ("after PPO", 2.5)]


def test_time_is_dealt_out_to_phases(folder: Path) -> None:
    phases = {phase.name: phase for phase in page.contents(page.read(folder))["phases"]}
    assert {name: phase.seconds for name, phase in phases.items()} == {
        "rollout": 3.0,
        "train": 1.0,
        "evaluate": 1.0,
        "other": 5.0,
    }
    assert phases["rollout"].memory_gib == 0.75 and phases["other"].share == 0.5


def test_a_parent_beside_it_is_linked(folder: Path) -> None:
    assert "b" * 16 in html(folder)  # not there: named by its signature
    parent = folder.with_name("sft-tiny-89abcdef")
    parent.mkdir()
    (parent / "result.json").write_text(Result(Status.finished, "sft", "tiny", "89abcdef", "b" * 16).to_json())
    assert 'href="../sft-tiny-89abcdef/report.html"' in html(folder)


def test_a_run_that_was_killed_has_a_page_too(folder: Path) -> None:
    for name in ("result.json", "samples.jsonl", "scores.jsonl", "overrides.txt"):
        (folder / name).unlink()
    assert "was killed" in html(folder)


def test_a_crash_is_shown_with_its_traceback(folder: Path) -> None:
    result = Result(Status.failed, "ppo", "tiny", "", "", reason="crash", message="RuntimeError: <oh>")
    (folder / "result.json").write_text(result.to_json())
    (folder / "crash.txt").write_text("Traceback (most recent call last):\n  <module>\n")
    text = html(folder)
    assert "failed (crash): RuntimeError: &lt;oh&gt;" in text and "  &lt;module&gt;\n" in text


def test_another_folder_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="is not the folder of a run"):
        page.write(tmp_path)
    assert page.main([str(tmp_path)]) == 2 and page.main([]) == 2


def test_every_run_ends_with_one_and_a_broken_one_ends_no_run(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = chain.execute(make_run("stage=rm", "rm.init=base"))
    text = (Path(result.folder) / page.NAME).read_text()
    assert "eval/accuracy" in text and "pairs, round 0" in text and "pairs, round 2" in text
    rows = [json.loads(line) for line in (Path(result.folder) / "scores.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 2]
    assert len(rows[1]["chosen"]) == len(rows[1]["rejected"]) == result.metrics["eval/pairs/preferences"]

    def fail(folder: Path) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr(page, "write", fail)
    assert chain.execute(make_run("stage=rm", "rm.init=base", "fresh=true")).status is Status.finished
    assert "no report.html (RuntimeError: no ink)" in capsys.readouterr().err


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda *overrides: small.make_run(tmp_path, *overrides)


def test_a_run_that_broke_off_shows_its_only_answers_and_no_remarks(folder: Path) -> None:
    first = (folder / "samples.jsonl").read_text().splitlines()[0]
    (folder / "samples.jsonl").write_text(first + "\n")
    low = {"round": 0, "kind": "eval", "seconds": 1.0, "response/eos_rate": 0.0}
    (folder / "metrics.jsonl").write_text(json.dumps(low) + "\n")
    assert "Worth a look" in html(folder)
    (folder / "result.json").write_text(Result(Status.failed, "ppo", "tiny", "", "", reason="nan", message="oh").to_json())
    text = html(folder)
    assert "SFT policy" in text and "after PPO" not in text.split("</style>")[1].split("Scores on")[0]
    assert "Worth a look" not in text
