"""Several reward models under one policy: each is a parent by its own signature, trained once, and all of them score."""

from collections.abc import Callable

import pytest

from rlhf import chain, checks, closing, lineage
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.result import Status
from rlhf.stages.rm import RewardModel

THREE = ("stage=ppo", "reward.members=3")


def signatures(run: Run) -> dict[str, str]:
    return {link.name: link.identity.result_signature for link in chain.links(run)}


def test_each_member_is_a_link_of_its_own_and_the_first_is_the_one_that_stands_alone(make_run: Callable[..., Run]) -> None:
    alone, three = signatures(make_run("stage=ppo")), signatures(make_run(*THREE))
    assert [*three] == ["sft", "rm", "rm.1", "rm.2", "ppo"] and [*alone] == ["sft", "rm", "ppo"]
    assert len(set(three.values())) == 5
    assert (three["sft"], three["rm"]) == (alone["sft"], alone["rm"]) and three["ppo"] != alone["ppo"]
    assert three["rm.2"] == signatures(make_run("stage=rm", "rm.member=2"))["rm"]
    assert signatures(make_run(*THREE, "rm.member=1"))["rm.1"] == three["rm.2"]  # an ensemble counts on from there
    assert signatures(make_run(*THREE, "reward=function", "reward.function=regex", "reward.pattern=a")).keys() == {"sft", "ppo"}


def test_every_stage_is_checked_once_however_many_members(make_run: Callable[..., Run]) -> None:
    run = make_run(*THREE, "rm.init=sft")
    assert lineage.chain(run, "ppo") == ["sft", "rm", "ppo"]
    assert lineage.parents(lineage.as_parent(run, "rm.2"), "rm") == ["sft"]


def test_members_are_trained_once_and_all_of_them_score(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[closing.Ended] = []
    chain.execute(make_run("stage=rm", "rm.member=1"))
    result = chain.execute(make_run("stage=ppo", "reward.members=2"), ended.append)
    assert result.status is Status.finished, result.message
    assert [(each.name, each.reused) for each in ended] == [("sft", True), ("rm", False), ("rm.1", True), ("ppo", False)]
    capsys.readouterr()
    closing.table(ended)
    rows = [
        line.replace("│", " ").split()[:2]
        for line in capsys.readouterr().out.splitlines()
        if "finished" in line or "reused" in line
    ]
    assert rows == [["sft", "reused"], ["rm", "finished"], ["rm.1", "reused"], ["ppo", "finished"]]
    assert list(result.parents) == ["sft", "rm", "rm.1"] and len(set(result.parents.values())) == 3
    assert result.metrics["eval/disagreement"] > 0 and result.metrics["eval/disagreement_sft"] > 0
    with pytest.raises(Fault, match=r"needs a reward_model from stage=rm rm.member=2, .* or set parents.rm_members"):
        chain.execute(make_run(*THREE, "parents.missing=require"))


@pytest.mark.slow
def test_another_member_draws_another_head_and_order(build: Callable[..., RewardModel]) -> None:
    first, other, same = (build("rm", f"rm.member={member}", "rm.init=base") for member in (0, 1, 0))

    def beginning(stage: RewardModel) -> tuple[list[int], float]:
        ((batch,),) = [next(stage.batches(0))]
        head = stage._scorer.score.weight
        return batch.answers.ids[0].tolist(), head.sum().item()

    assert beginning(first) == beginning(same)
    assert beginning(first)[0] != beginning(other)[0] and beginning(first)[1] != beginning(other)[1]


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (("reward.members=3", "ppo.reward_normalization=none"), "reward.members=3: reward models have their zeros anywhere"),
        (("reward.members=3", "parents.rm=hub/one"), "names 0 beside parents.rm=hub/one, and reward.members=3"),
        (("reward.members=2", "parents.rm_members=[hub/two]"), "names 1 beside parents.rm=null"),
        (("parents.rm=hub/one", "parents.rm_members=[hub/two]"), "and reward.members=1; bring all of an ensemble"),
        (("reward.members=0",), "reward.members=0"),
    ],
)
def test_what_does_not_go_together_is_a_fault(overrides: tuple[str, ...], fault: str, make_run: Callable[..., Run]) -> None:
    (line,) = checks.faults(make_run("stage=ppo", *overrides))
    assert fault in line


def test_reward_models_of_ones_own(make_run: Callable[..., Run]) -> None:
    own = "parents.rm=hub/one", "parents.rm_members=[hub/two, hub/three]"
    run = make_run(*THREE, *own)
    assert not checks.faults(run) and [*signatures(run)] == ["sft", "ppo"]
    parents = chain.identify(run, "ppo").parents
    assert (parents["rm"], parents["rm.1"], parents["rm.2"]) == ("hub:hub/one", "hub:hub/two", "hub:hub/three")
