"""What is proposed after a run, and what its closing lines show."""

import json
from pathlib import Path

import pytest

from rlhf import after, closing
from rlhf.result import Result
from tests.stages import small


def ended(stage: str, folder: str) -> Result:
    names = dict.fromkeys(("model", "run_signature", "result_signature"), "")
    return Result.parse({"status": "finished", "metrics": {}, "stage": stage, "folder": folder, **names})


def test_the_words_are_the_persons_own(tmp_path: Path) -> None:
    run = small.make_run(tmp_path, "stage=sft", "sft.learning_rate=1e-3")
    typed = ["stage=sft", "data.sources.mine.stages=[sft]", "sft.learning_rate=1e-3", "fresh=true", "data=demo", "sft=tiny"]
    talk, study = after.commands(run, ended("sft", "out/my run"), typed)
    assert talk == "python -m rlhf chat 'out/my run'"
    assert study == "python -m rlhf -m stage=sft 'data.sources.mine.stages=[sft]' sft.learning_rate=0.001,0.003"
    look, study = after.commands(run, ended("rm", "out"), None)
    assert look == "python -m rlhf report out" and study.startswith("python -m rlhf -m stage=rm rm.learning_rate=")


def test_texts_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"round": 1, "prompt": "a\x1b[2J", "sft_response": "b\x07", "response": "c\u202e"}
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    closing._print_examples(ended("ppo", str(tmp_path)))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown) and "prompt  a\u27e8U+001B\u27e9[2J" in shown
