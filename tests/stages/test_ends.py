"""Every end of a run is a typed result: NaN, out of memory, a crash, a faulty file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf import chain, loop
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.result import Result, Status


def test_a_loss_that_is_not_finite_ends_as_nan(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=sft", "sft.learning_rate=1e30", "sft.warmup_steps=0", "sft.max_steps=4"))
    assert (result.status, result.reason, result.exit_code) == (Status.failed, "nan", 1)
    assert Result.load(Path(result.folder) / "result.json").reason == "nan"


def test_memory_that_runs_out_ends_as_oom(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=sft", "model.arch.ffn_size=100000000000"))
    assert (result.status, result.reason, result.exit_code) == (Status.infeasible, "oom", 3)


def test_a_crash_keeps_its_traceback_and_says_where(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(loop, "train", crash)
    result = chain.execute(make_run("stage=sft"))
    assert (result.status, result.reason, result.exit_code) == (Status.failed, "crash", 1)
    assert "the disk is on fire" in result.message
    assert "Traceback" in (Path(result.folder) / "crash.txt").read_text()


def test_a_failing_parent_ends_the_chain_with_its_own_reason(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=ppo", "sft.learning_rate=1e30", "sft.warmup_steps=0", "sft.max_steps=4"))
    assert (result.stage, result.status, result.reason) == ("sft", Status.failed, "nan")


def test_a_file_that_is_not_there_is_a_fault_and_leaves_no_folder(make_run: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(Fault, match="data.sources.mine.path"):
        chain.execute(make_run("stage=sft", "data=local", "data.sources.mine.path=/nowhere.jsonl"))
    assert not (tmp_path / "runs").exists()


def test_an_outputs_folder_that_cannot_be_is_a_fault(make_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Fault, match="paths.outputs: .* cannot be made"):
        chain.execute(make_run("stage=sft", f"paths.outputs={tmp_path}/file"))


@pytest.mark.parametrize("parent", ["{empty}", "nobody/nothing"])
def test_a_parent_that_is_no_model_is_a_fault(parent: str, make_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Fault, match="holds no tokenizer that can be loaded"):
        chain.execute(make_run("stage=rm", f"parents.sft={parent.format(empty=tmp_path / 'empty')}"))


def test_a_parent_of_ones_own_must_be_what_it_is_used_as(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Else its missing head would be drawn at random, and PPO would learn to please noise."""
    sft = chain.execute(make_run("stage=sft"))
    plain = tmp_path / "plain"
    shutil.copytree(sft.artifact or "", plain)
    (plain / "manifest.json").unlink()
    with pytest.raises(Fault, match=r"parents: .*plain: lacks score.weight, so it is no reward model"):
        chain.execute(make_run("stage=ppo", f"parents.rm={plain}"))


def test_a_parent_without_a_chat_template_gets_the_models(make_run: Callable[..., Run], tmp_path: Path) -> None:
    sft = chain.execute(make_run("stage=sft"))
    plain = tmp_path / "plain"
    shutil.copytree(sft.artifact or "", plain)
    for name in ("manifest.json", "chat_template.jinja"):
        (plain / name).unlink()
    assert chain.execute(make_run("stage=rm", f"parents.sft={plain}")).status is Status.finished


def test_pairs_alone_are_enough_for_a_reward_model(make_run: Callable[..., Run], tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(100)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = ("data=local", f"data.sources.mine.path={tmp_path}/pairs.jsonl", "data.sources.mine.stages=[rm]")
    assert chain.execute(make_run("stage=rm", "rm.init=base", *mine)).status is Status.finished
