"""The verb on real artifacts, by a pipe; and what a person may write for a run."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.chat import find, terminal
from rlhf.chat.conversation import Conversation
from rlhf.config import ChatConfig
from rlhf.data.records import Turn
from rlhf.fault import Fault
from rlhf.runs import artifact_of
from tests.stages import small


def sealed(folder: Path, **about: object) -> Path:
    """What looks like an artifact from outside."""
    (folder / "artifact").mkdir(parents=True)
    (folder / "artifact" / "manifest.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text("seed: 1\n")
    return folder / "artifact"


def test_a_run_is_found_by_folder_artifact_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sealed(Path("outputs/runs/sft-tiny-0123abcd"))
    expected = Path("outputs/runs/sft-tiny-0123abcd/artifact")
    for word in (str(expected), str(expected.parent), "sft-tiny-0123abcd", "sft-tiny-01"):
        assert artifact_of(word) == expected
    assert find.name_of(expected) == "sft-tiny-0123abcd"
    sealed(Path("outputs/runs/sft-tiny-0123ffff"))
    with pytest.raises(Fault, match="did you mean sft-tiny-0123abcd, sft-tiny-0123ffff"):
        artifact_of("sft-tiny-01")
    assert artifact_of("outputs/runs/sft-tiny-0123a") == expected
    sealed(Path("elsewhere/runs/ppo-tiny-1"))
    assert artifact_of("ppo-tiny", "elsewhere") == Path("elsewhere/runs/ppo-tiny-1/artifact")
    with pytest.raises(Fault, match="nothing: is not the folder of a run .* runs are in outputs/runs"):
        artifact_of("nothing")


class Echo:
    """Answers with what it heard."""

    name = "echo"

    def reply(self, turns: tuple[Turn, ...], settings: ChatConfig, key: str) -> Iterator[str]:
        yield turns[-1].text


def test_a_line_that_is_not_utf8_is_told_and_the_next_one_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n/system caf\xe9\ntea\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", said)
    assert terminal._talk(Conversation([Echo()], None, terminal.settings_of([]))) == 0
    shown = capsys.readouterr()
    assert shown.out == "echo: tea\n" and shown.err.count("this line is not UTF-8") == 2


def test_a_run_that_did_not_finish_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(Fault, match="this run has no artifact"):
        artifact_of(str(tmp_path))


def test_the_reward_model_is_the_one_the_run_was_trained_against(tmp_path: Path) -> None:
    sealed(tmp_path / "runs/rm-a", result_signature="a")
    wanted = sealed(tmp_path / "runs/rm-b", result_signature="b")
    policy = sealed(tmp_path / "runs/ppo", result_signature="p", parents={"sft": "s", "rm": "b"})
    assert find.reward_model_of(policy) == wanted
    assert find.reward_model_of(sealed(tmp_path / "runs/sft", result_signature="s", parents={})) is None


def pipe(monkeypatch: pytest.MonkeyPatch, lines: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    return terminal.main(list(arguments))


def test_lines_from_a_pipe_are_answered_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    scorer = chain.execute(small.make_run(tmp_path, "stage=rm", "rm.init=sft"))
    (policy,) = (tmp_path / "runs").glob("sft-*")
    capsys.readouterr()
    question, rest = (
        "When does it open?",
        ["/settings no_repeat_ngram_size=1", "/wrong", "And on Sunday?", "/quit", "never heard"],
    )
    lines = "".join(f"{line}\n" for line in [question, "", "/reset", question, *rest])
    words = [str(policy), "max_new_tokens=8", f"reward={scorer.folder}"]
    assert pipe(monkeypatch, lines, *words) == 0
    said = capsys.readouterr()
    first, forgotten, second, settings, third = said.out.splitlines()
    assert first == second and first.startswith(f"{policy.name} [score ") and forgotten == "forgotten"
    assert "no_repeat_ngram_size=1" in settings and third.startswith(policy.name)
    assert said.err == "/wrong: there is no such command; /help lists them\n"
    assert pipe(monkeypatch, "When does it open?\n", str(policy), str(policy), "max_new_tokens=8") == 0
    both = capsys.readouterr().out.splitlines()
    assert torch.is_grad_enabled()  # two replies alternated
    assert len(both) == 2 and both[0] == both[1] and "[score" not in both[0]  # no reward model among its parents
    assert pipe(monkeypatch, "", str(scorer.folder)) == 2
    assert "is a reward_model, but a policy is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fault"),
    [([], "takes one run"), (["a", "b", "c"], "takes one run"), (["a", "temp=1"], "temp=1: "), (["a"], "a: is not the folder")],
)
def test_wrong_words_are_faults(words: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.main(words) == 2
    assert fault in capsys.readouterr().err
