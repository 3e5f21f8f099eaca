"""The verb as a person uses it: terminal, page and JSON, faults, and two real runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf import chain, command_line
from rlhf.compare import command
from tests.compare.made import curve, run
from tests.stages import small

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} [red] \u202egnp.exe \x1b[31m"
KL = "ppo.kl_coef"


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Two runs in which every text is hostile."""
    folders = []
    for name, value, end in (("a", 0.1, 1.0), ("b", 0.2, 2.0)):
        rows = curve("reward/gain", [(0, 0.0), (2, end), (4, 2 * end)], eval__kl=[0.0, 1.0, 2.0])
        samples = [{"round": 4, "prompt": NASTY, "response": f"{NASTY} {name}", "score": end}]
        overrides = {KL: value, "model.name": NASTY, "data.sources.demo.columns": {"x": f"{NASTY}{value}"}}
        scores = [{"round": at, "score": [end * at, at, 0.0]} for at in (0, 4)]
        parts = {"rows": rows, "samples": samples, "scores": scores, "metrics": {"reward/gain": end, f"eval/{NASTY}": end}}
        folders.append(str(run(tmp_path / name, overrides, **parts)))
    return folders


def test_the_terminal_shows_texts_as_they_are(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(pair) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said and "[red]" in said
    assert "not distinguishable" in said and "paired over 3 prompts" in said
    assert re.search(r"reward/gain \(best\) +KL +B +0 to 2 +2 \(mean 1\) +4 \(mean 2\) +\+2", said)


def test_the_page_holds_everything_and_nothing_that_runs(pair: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert command.main([*pair, "--html", str(page), "--about", KL]) == 0
    text = page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "default-src" in text
    assert not re.search(r"<script|<img|<iframe|https?:|url\(|@import", text.replace("http://www.w3.org", ""))
    assert "\u202e" not in text and "\x1b" not in text and "49" not in re.findall(r"onerror=alert\(1\)&gt; (\S+)", text)
    for part in ("About ppo.kl_coef", "Reward at equal KL", "As far as both have been", "reward/gain, difference", "Samples"):
        assert part in text, part
    assert text.count("<svg") == text.count("</svg>") >= 5


def test_json_has_the_names_that_are_documented(pair: list[str], capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert command.main([*pair, "--json", "--about", KL]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["about"] == [KL] and content["confounded_by"][0]["key"] == "data.sources.demo.columns.x"
    gain = next(each for each in content["metrics"] if each["metric"] == "reward/gain")
    assert gain["values"] == {"A": 1.0, "B": 2.0}
    assert gain["differences"][0] | {"low": 0, "high": 0} == {
        "group": "B",
        "base": "A",
        "difference": pytest.approx(4 / 3),
        "low": 0,
        "high": 0,
        "method": "paired over 3 prompts",
        "verdict": "not distinguishable",
        "why": None,
    }
    told = (root / "docs" / "compare.md").read_text()
    parts = [content, *(content[name][0] for name in ("groups", "settings", "metrics", "equal", "samples"))]
    names = {name for part in [*parts, gain["differences"][0], content["groups"][0]["runs"][0]] for name in part}
    assert [name for name in sorted(names) if f"`{name}`" not in told] == []


def test_many_runs_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = curve("reward/gain", [(0, 0.0), (4, 4.0)])
    folders = [str(run(tmp_path / f"r{at}", {KL: at / 10}, rows=rows, metrics={"reward/gain": 1.0})) for at in range(27)]
    assert command.main([*folders, "--html", str(tmp_path / "x.html")]) == 0
    assert re.search(r"^AA  r26", capsys.readouterr().out, re.M)
    assert "Charts show the first eight" in (tmp_path / "x.html").read_text()


def test_faults_name_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = str(run(tmp_path / "a")), str(run(tmp_path / "b", {KL: 0.2}))
    for arguments, said in (
        ([], "compare: takes two runs or more"),
        ([one, two, "--best", "0"], "--best 0: must be at least 1"),
        ([one, two, "--bset", "3"], "unrecognized arguments: --bset 3; see python -m rlhf compare --help"),
        ([one, two, "--html", str(tmp_path / "no" / "x.html")], "there is no folder"),
        ([one, two, "--about", "ppo.learning_rate"], "is the same in all of them"),
    ):
        assert command.main(arguments) == command_line.EXIT_FAULTS
        assert said in capsys.readouterr().err


def test_it_is_quick(pair: list[str], root: Path) -> None:
    look = (
        f"import sys; from rlhf.compare import command; command.main({pair!r}); print({{'torch', 'wandb'}} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", look], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "set()"


def test_two_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [chain.execute(small.make_run(tmp_path, "stage=rm", f"rm.max_steps={steps}")) for steps in (2, 4)]
    capsys.readouterr()
    assert command.main([*(each.folder for each in ended), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sentence"] == "They differ in rm.max_steps (2, 4) alone."
    for name in ("eval/accuracy", "eval/loss"):
        found = next(each for each in content["metrics"] if each["metric"] == name)["differences"][0]
        assert found["method"].endswith(" pairs") and found["low"] <= found["difference"] <= found["high"]
        # what the pairs add up to is what the runs say
        assert found["difference"] == pytest.approx(ended[1].metrics[name] - ended[0].metrics[name], abs=1e-5)
