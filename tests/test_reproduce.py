"""A run made again: equal bytes, differences named, and faults for what cannot be made again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rlhf import chain, provenance, reproduce
from rlhf.closing import Ended
from rlhf.config import CONF, Run
from rlhf.result import Result
from tests.stages import small


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda *overrides: small.make_run(tmp_path, *overrides)


pytestmark = pytest.mark.usefixtures("one_thread")


def again(tmp_path: Path) -> Path:
    (folder,) = tmp_path.glob("reproduced/*/runs/*")
    return folder


def test_a_run_made_again_has_equal_bytes(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with provenance.overridden_by(["stage=rm", "rm.init=sft"]):
        first = Path(chain.execute(make_run("stage=rm", "rm.init=sft")).folder)
    assert (first / "overrides.txt").read_text() == "stage=rm\nrm.init=sft\n"
    assert reproduce.main([str(first)]) == 0
    said = capsys.readouterr()
    assert "equal: the artifact's bytes and the final metrics" in said.out and said.err == ""
    second = again(tmp_path)  # one run: its parent was found, not trained again
    assert second.name.startswith("rm-") and f"parents.sft={tmp_path}/runs/sft-" in said.out
    weights = "artifact/model.safetensors"
    assert (first / weights).read_bytes() == (second / weights).read_bytes()


def test_a_run_that_several_reward_models_scored_has_equal_bytes(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts from both of them and trains neither again; made again itself, the second is the second."""
    ended: list[Ended] = []
    first = chain.execute(make_run("stage=ppo", "reward.members=2"), ended.append)
    one, other = (each.result for each in ended if each.result.stage == "rm")
    assert reproduce.main([first.folder]) == 0
    said = capsys.readouterr().out
    assert f"parents.rm={one.artifact}\n" in said and f"parents.rm_members=[{other.artifact}]\n" in said
    assert "equal: the artifact's bytes and the final metrics" in said and again(tmp_path).name.startswith("ppo-")
    assert reproduce.main([other.folder]) == 0
    assert "equal: the artifact's bytes and the final metrics" in capsys.readouterr().out


def test_other_values_are_compared_and_the_chain_can_be_trained_whole(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = chain.execute(make_run("stage=sft")).folder
    assert reproduce.main([first, "whole_chain=true", "sft.learning_rate=1e-4"]) == 0  # it was asked to differ
    said = capsys.readouterr().out
    assert "model.safetensors: differs, by at most" in said and "eval/loss:" in said and "not equal" in said
    content = json.loads((Path(first) / "result.json").read_text())
    content["metrics"]["eval/loss"] += 1
    (Path(first) / "result.json").write_text(json.dumps(content))
    assert reproduce.main([first]) == 1
    assert "eval/loss:" in capsys.readouterr().out


def test_a_parent_is_made_again_and_not_the_stage_it_was_made_for(
    make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["stage=rm", "rm.init=sft", "rm.eval_every=1", "early_stop.metric=eval/accuracy", "early_stop.patience=1"]
    chain.execute(make_run(*words))
    (parent,) = tmp_path.glob("runs/sft-*")
    assert reproduce.main([str(parent)]) == 0
    assert again(tmp_path).name == parent.name  # early_stop was the reward model's
    assert "equal: the artifact's bytes and the final metrics" in capsys.readouterr().out


def test_relative_paths_are_those_of_the_folder_the_run_was_started_in(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    rows = [json.dumps({"prompt": f"Number {number}?", "completion": f"It is {number}."}) for number in range(100)]
    (tmp_path / "here" / "mine.jsonl").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path / "here")
    words = ["stage=sft", "data=local", "data.sources.mine.path=mine.jsonl", "data.sources.mine.stages=[sft]"]
    first = chain.execute(make_run(*words)).folder
    monkeypatch.chdir(tmp_path)
    assert reproduce.main([first]) == 0 and "equal: " in capsys.readouterr().out
    (tmp_path / "here" / "mine.jsonl").rename(tmp_path / "moved.jsonl")
    assert reproduce.main([first]) == 2
    fault = (
        f"data.sources.mine.path=mine.jsonl: is not in {tmp_path / 'here'}, where the run was started; put it there, or write"
    )
    assert fault in capsys.readouterr().err
    assert reproduce.main([first, "data.sources.mine.path=moved.jsonl"]) == 0


@pytest.fixture
def folder(make_run: Callable[..., Run], tmp_path: Path) -> Path:
    """The folder of a run, as far as its faults are concerned."""
    path = tmp_path / "runs" / "sft-tiny-0"
    path.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(make_run("stage=sft")), path / "config.yaml")
    (path / "result.json").write_text(
        Result.parse(
            {"status": "finished", "metrics": {}, **dict.fromkeys(("model", "run_signature", "result_signature"), "")}
            | {"stage": "sft"}
        ).to_json()
    )
    return path


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["sft.epoch=5"], "sft.epoch=5: there is no key `sft.epoch`; did you mean `sft.epochs`?"),
        (["sft.max_steps=many"], "sft.max_steps=many: "),
        (["sft=ds_chat"], "set single keys"),
        (["zzz=1"], "set single keys"),
        (["+seed=2"], "one value is set here"),
        (["seed=1,2"], "one value is set here"),
        (["sft.micro_batch_size=3"], "does not divide"),
    ],
)
def test_a_wrong_word_is_a_fault(words: list[str], fault: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main([str(folder), *words]) == 2
    assert fault in capsys.readouterr().err


def test_a_folder_that_is_no_finished_run_is_a_fault(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "result.json").unlink()
    for words, fault in (
        [[str(folder)], "has no result.json"],
        [[str(tmp_path)], "is not the folder of a run"],
        [[], "takes the folder"],
    ):
        assert reproduce.main(words) == 2
        assert fault in capsys.readouterr().err


def test_a_configuration_of_other_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("\nseed: 1\n", "\n"))
    assert reproduce.main([str(folder)]) == 2
    assert "seed: came after the run was made" in capsys.readouterr().err
    without = OmegaConf.create(config)
    del without["chat"]
    OmegaConf.save(without, folder / "config.yaml")
    assert OmegaConf.select(reproduce.saved(folder), "chat.top_p") == OmegaConf.load(CONF / "chat/default.yaml").top_p
    assert "chat: came after the run was made" in capsys.readouterr().err
    (folder / "config.yaml").write_text(config + "gone: 1\n")
    assert reproduce.main([str(folder)]) == 2
    assert "check out the run's commit" in capsys.readouterr().err
