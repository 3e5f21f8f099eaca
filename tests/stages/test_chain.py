"""Parents are found by what could have changed them, trained when missing, or refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.closing import Ended
from rlhf.config import MissingParents, Run
from rlhf.fault import Fault
from rlhf.result import Result, Status


def ended(run: Run) -> list[tuple[str, bool]]:
    """The stages that a run went through, and whether each was reused."""
    seen: list[tuple[str, bool]] = []

    def note(stage: Ended) -> None:
        assert stage.result.status is Status.finished, stage.result.message
        seen.append((stage.name, stage.reused))

    chain.execute(run, note)
    return seen


def test_missing_parents_are_trained_once_and_reused(make_run: Callable[..., Run]) -> None:
    assert ended(make_run("stage=ppo")) == [("sft", False), ("rm", False), ("ppo", False)]
    assert ended(make_run("stage=ppo")) == [("sft", True), ("rm", True), ("ppo", True)]
    assert ended(make_run("stage=ppo", "ppo.kl_coef=0.3")) == [("sft", True), ("rm", True), ("ppo", False)]
    assert ended(make_run("stage=ppo", "rollout.temperature=0.7")) == [("sft", True), ("rm", True), ("ppo", False)]
    assert ended(make_run("stage=ppo", "rm.weight_decay=0.1")) == [("sft", True), ("rm", False), ("ppo", False)]
    assert ended(make_run("stage=rm", "sft.micro_batch_size=2")) == [("sft", True), ("rm", True)]  # a system knob of a parent
    assert ended(make_run("stage=sft", "sft.micro_batch_size=2")) == [("sft", False)]  # but a cell of its own when asked for


def test_a_system_knob_is_measured_itself_and_gives_the_same_result_signature(make_run: Callable[..., Run]) -> None:
    first, second = chain.execute(make_run("stage=sft")), chain.execute(make_run("stage=sft", "sft.micro_batch_size=2"))
    assert first.folder != second.folder and first.result_signature == second.result_signature


def test_fresh_runs_again_but_leaves_the_parents(make_run: Callable[..., Run]) -> None:
    ended(make_run("stage=rm"))
    assert ended(make_run("stage=rm", "fresh=true")) == [("sft", True), ("rm", False)]


def test_missing_parents_can_be_refused(make_run: Callable[..., Run]) -> None:
    run = make_run("stage=ppo")
    run = replace(run, parents=replace(run.parents, missing=MissingParents.require))
    with pytest.raises(Fault, match="parents.missing=require: stage=ppo needs a policy from stage=sft"):
        chain.execute(run)


def test_a_parent_can_be_brought_along(make_run: Callable[..., Run], tmp_path: Path) -> None:
    own = chain.execute(make_run("stage=sft", "seed=7"))
    run = make_run("stage=rm", f"parents.sft={own.artifact}", f"paths.outputs={tmp_path}/elsewhere")
    result = chain.execute(run)
    assert result.status is Status.finished and result.parents == {"sft": own.result_signature}
    with pytest.raises(Fault, match="parents.sft=.* is a reward_model, but a policy is needed"):
        chain.execute(make_run("stage=rm", f"parents.sft={result.artifact}"))


def test_a_damaged_parent_is_not_used(make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    sft = chain.execute(make_run("stage=sft"))
    weights = Path(sft.artifact or "") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Fault, match="model.safetensors: differs from its digest"):
        chain.execute(make_run("stage=rm", f"parents.sft={sft.artifact}"))


def test_the_record_is_complete(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=ppo", "ppo.updates=3", "ppo.eval_every=1"))
    folder = Path(result.folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["round"]) for row in rows] == [
        ("eval", 0), ("train", 1), ("eval", 1), ("train", 2), ("eval", 2), ("train", 3), ("eval", 3)
    ]  # fmt: skip
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert {row["round"] for row in samples} == {0, 1, 2, 3} and {"prompt", "response", "score", "gold"} <= set(samples[0])
    stored = json.loads((folder / "result.json").read_text())
    assert stored["status"] == "finished" and stored["metrics"]["reward/gain"] == rows[-1]["reward/gain"]
    assert stored["parents"].keys() == {"sft", "rm"} and stored["versions"]["torch"]
    assert Result.load(folder / "result.json") == result


def test_a_damaged_result_is_no_result(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=sft"))
    (Path(result.folder) / "result.json").write_text('{"x')
    assert ended(make_run("stage=rm")) == [("rm", False)]  # the parent's artifact is whole, and enough
    assert ended(make_run("stage=sft")) == [("sft", False)]


def test_a_damaged_artifact_is_made_again_and_never_reused(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=sft"))
    weights = Path(result.artifact or "") / "model.safetensors"
    whole = weights.read_bytes()
    for stages, told in (("rm", [("sft", False), ("rm", False)]), ("sft", [("sft", False)])):
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert ended(make_run(f"stage={stages}")) == told
        assert weights.read_bytes() == whole


def test_fresh_takes_nothing_away_until_the_new_run_can_begin(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = chain.execute(make_run("stage=sft"))
    before = sorted(each.name for each in Path(result.folder).iterdir())

    def refuse(*arguments: object, **settings: object) -> None:
        raise Fault("model.path: gone")

    monkeypatch.setattr("rlhf.stages.sft.load_policy", refuse)
    with pytest.raises(Fault):
        chain.execute(make_run("stage=sft", "fresh=true"))
    assert sorted(each.name for each in Path(result.folder).iterdir()) == before
    assert ended(make_run("stage=sft")) == [("sft", True)]
