"""Runs that end before their time, and runs that keep their best weights: same bytes after a resume, also on ranks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf import chain, followed, loop
from rlhf.closing import Ended
from rlhf.config import STAGES, EarlyStopConfig, Run
from rlhf.explain import pages
from rlhf.fault import Fault
from rlhf.metrics import Mean, Metrics
from rlhf.report import folder
from rlhf.result import Objective, Result
from rlhf.selection import Selection
from rlhf.stages.interface import Evaluation, Stage
from rlhf.stages.sft import SFT
from tests.stages import small

GROWS_WORSE = ("stage=sft", "sft.eval_every=2", "sft.max_steps=12", "sft.learning_rate=3e-2", "sft.schedule=constant",
               "sft.warmup_steps=0", "sft.epochs=100", "data.max_train_examples=8")  # fmt: skip
"""Eight rows learnt by heart: the held-out loss falls, then rises."""


def follow(
    values: list[float], direction: Literal["minimize", "maximize"] = "maximize", patience: int | None = 2
) -> tuple[Selection, list[bool], list[int]]:
    kept: list[int] = []
    stops = EarlyStopConfig(metric="m", goal=None, patience=patience, min_delta=0.5, max_kl=None)
    selection = Selection(stops, Objective("m", direction), kept.append)
    ends = [selection.evaluated(at, Evaluation(Metrics({"m": Mean(value, 1)}))) for at, value in enumerate(values)]
    return selection, ends, kept


def test_patience_by_hand() -> None:
    selection, ends, kept = follow([1.0, 1.4, 2.0, 2.5, 1.0])  # 1.4 and 2.5 are no more than min_delta better
    assert ends == [False, False, False, False, True] and kept == [0, 2]
    assert (selection.best, selection.best_round, selection.waited) == (2.0, 2, 2)
    assert follow([1.0, 0.9, float("nan")])[1] == [False, False, True]
    assert follow([3.0, 2.0, 1.0], "minimize")[2] == [0, 1, 2]
    assert follow([1.0, 0.0, 0.0], patience=None)[1] == [False] * 3


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_measures_is_known_before_it_starts(stage: str, build: Callable[..., Stage]) -> None:
    """A metric left out of the table would be refused although it is there."""
    built = build(stage, "evaluation.examples=8", "evaluation.prompts=4")
    known = followed.measured(small.make_run(Path("unused"), f"stage={stage}"), stage)
    constant = ("baseline/", "eval/pairs/", "reward/gold_sd_sft", "best_of/")
    found = {each for each in built.evaluate(0).metrics if not each.startswith(constant) and not each.endswith("_sft")}
    assert found and found <= set(known)
    assert all(followed.can_measure(stage, each) for each in built.evaluate(0).metrics)
    assert all(any(row.about(name) for row in pages.metrics()) for name in known)


@pytest.mark.parametrize(
    ("overrides", "metric", "direction"),
    [
        ("stage=sft early_stop.metric=eval/perplexity", "eval/perplexity", "minimize"),  # was maximised: the worst was kept
        ("stage=sft early_stop.metric=response/length_mean early_stop.goal=minimize", "response/length_mean", "minimize"),
        ("stage=ppo early_stop.metric=reward/gold_gain", "reward/gold_gain", "maximize"),
        ("stage=rm rm.loss=mse", "eval/rating_mse", "minimize"),
        ("stage=rm", "eval/accuracy", "maximize"),
    ],
)
def test_the_goal_follows_the_metric(overrides: str, metric: str, direction: str, make_run: Callable[..., Run]) -> None:
    run = make_run(*overrides.split())
    assert followed.objective(run, run.stage) == Objective(metric, direction)


def evaluations(result: Result) -> list[dict[str, float]]:
    rows = map(json.loads, (Path(result.folder) / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == "eval"]


def held_out_loss(result: Result) -> float:
    return result.metrics["eval/loss"]


def test_the_best_weights_are_kept(make_run: Callable[..., Run]) -> None:
    last, best = (chain.execute(make_run(*GROWS_WORSE, f"sft.keep_best={keep}")) for keep in ("false", "true"))
    assert last.run_signature != best.run_signature and held_out_loss(best) < held_out_loss(last)
    assert re.match(r"kept the weights of round \d+, whose eval/loss of \S+ is the best", best.message)
    assert len(evaluations(best)) == 8  # before, five on the way, the last, and the kept ones again
    assert not (Path(best.folder) / "best").exists()
    samples = folder.read(Path(best.folder)).samples
    kept = folder.last_samples(samples)
    (round_,) = {row["kept"] for row in kept}
    measured_then = [row["response"] for row in samples if row["round"] == round_]
    assert [row["response"] for row in kept] == measured_then != []  # and not what the last weights said


def test_a_run_ends_early(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run(*GROWS_WORSE, "sft.keep_best=true", "early_stop.patience=1"))
    assert (result.status.name, result.reason, result.exit_code) == ("finished", "early_stop", 0)
    assert result.message.startswith("ended after ") and "of 12 rounds" in result.message
    again = chain.execute(make_run(*GROWS_WORSE, "sft.keep_best=true", "early_stop.patience=1"))
    assert again.folder == result.folder and again.seconds == result.seconds  # reused


def test_the_better_perplexity_is_kept_although_nobody_said_that_less_is_better(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=sft", "sft.keep_best=true", "sft.eval_every=1", "early_stop.metric=eval/perplexity"))
    measured = [row["eval/perplexity"] for row in evaluations(result)]
    assert result.metrics["eval/perplexity"] == min(measured) < measured[0]


def test_each_round_is_evaluated_once(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    measure = SFT.evaluate
    monkeypatch.setattr(SFT, "evaluate", lambda self, round_: rounds.append(round_) or measure(self, round_))
    result = chain.execute(make_run(*GROWS_WORSE, "sft.keep_best=true", "early_stop.patience=1"))
    assert result.reason == "early_stop" and rounds == sorted(set(rounds))
    written = evaluations(result)
    assert [row["round"] for row in written] == [*rounds, rounds[-1]]  # the record ends with what is kept
    assert result.metrics["eval/loss"] == written[-1]["eval/loss"] == min(row["eval/loss"] for row in written)


def test_a_stage_that_is_stopped_early_keeps_what_is_said_at_the_end(make_run: Callable[..., Run]) -> None:
    result = chain.execute(
        make_run("stage=rm", "rm.eval_every=1", "rm.max_steps=3", "early_stop.patience=1", "early_stop.min_delta=1")
    )
    assert result.reason == "early_stop" and "baseline/longer_wins" in result.metrics


def test_what_is_not_measured_on_this_data_is_a_fault_before_anything_is_learnt(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended as a crash after the whole training, without a model."""
    monkeypatch.setattr(loop, "train", lambda *arguments: pytest.fail("nothing may be learnt"))
    asked = ("stage=rm", "rm.init=base", "rm.eval_every=1", "early_stop.metric=eval/kendall_tau")
    with pytest.raises(Fault, match="early_stop.metric=eval/kendall_tau: is not measured on this data; choose from .*eval/acc"):
        chain.execute(make_run(*asked, "rm.keep_best=true"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_ratings_alone_select_by_their_squared_error(make_run: Callable[..., Run], tmp_path: Path) -> None:
    rows = [{"prompt": f"Is {n} even?", "completion": "Yes." if n % 3 else "No.", "label": n % 2 == 0} for n in range(40)]
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = ("data=local", f"data.sources.mine.path={tmp_path}/rated.jsonl", "data.eval_fraction=0.3")
    result = chain.execute(
        make_run("stage=rm", "rm.init=base", "rm.loss=mse", "rm.epochs=9", "rm.keep_best=true", "rm.eval_every=1", *mine)
    )
    assert result.status.name == "finished", result.message
    assert result.metrics["eval/rating_mse"] == min(row["eval/rating_mse"] for row in evaluations(result))


def test_parents_neither_heed_early_stop_nor_are_named_by_it(make_run: Callable[..., Run]) -> None:
    """It is meant for the stage that was asked for; SFT has no such KL, and was ended after its first evaluation."""
    common = ("stage=ppo", "sft.eval_every=1", "rm.eval_every=1", "ppo.eval_every=1", "sft.max_steps=3", "sft.epochs=9")
    asked = make_run(*common, "early_stop.metric=eval/kl", "early_stop.goal=minimize", "early_stop.patience=1")
    plain, far = make_run(*common), make_run(*common, "early_stop.max_kl=20")
    for parent in ("sft", "rm"):
        assert chain.identify(asked, parent) == chain.identify(far, parent) == chain.identify(plain, parent)
    names = {chain.identify(run, "ppo").result_signature for run in (asked, plain, far)}
    assert len(names) == 3
    ended: list[Ended] = []
    chain.execute(asked, ended.append)
    assert [(each.name, each.result.reason) for each in ended] == [("sft", ""), ("rm", ""), ("ppo", "early_stop")]


def test_which_weights_are_kept_is_said_at_the_end(make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert chain.main(make_run("stage=sft", "sft.keep_best=true", "sft.eval_every=1", "sft.learning_rate=1e-9")) == 0
    assert re.search(r"^stage=sft: kept the weights of round \d", capsys.readouterr().out, re.MULTILINE)


def test_ppo_ends_when_it_has_gone_too_far(make_run: Callable[..., Run]) -> None:
    far = ("ppo.updates=6", "ppo.learning_rate=1e-2", "ppo.critic_warmup=0", "early_stop.max_kl=0.05")
    result = chain.execute(make_run(*far))
    assert result.reason == "early_stop" and result.metrics["eval/kl"] > 0.05


@pytest.mark.parametrize(
    "system",
    [
        pytest.param((), id="plain"),
        pytest.param(("zero=1", "ranks=2", "offload=optimizer"), id="two ranks", marks=pytest.mark.slow),
    ],
)
def test_a_resume_keeps_the_same_weights(
    system: tuple[str, ...], make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*GROWS_WORSE, "sft.keep_best=true", "sft.save_every=4", *system)
    whole = chain.execute(make_run(*settings, f"paths.outputs={tmp_path}/whole"))
    parts = make_run(*settings, f"paths.outputs={tmp_path}/parts", "early_stop.min_delta=0.0")
    if not system:  # stopped by a signal between two rounds; on ranks the whole run is only compared with the plain one
        calls = iter([False] * 7 + [True] + [False] * 100)
        monkeypatch.setattr("rlhf.stopping.StopRequest.requested", lambda self: next(calls))
        stopped = chain.execute(parts)
        assert stopped.status.name == "stopped"
        monkeypatch.undo()
    finished = chain.execute(parts)
    one, other = (AutoModelForCausalLM.from_pretrained(each.artifact).state_dict() for each in (whole, finished))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_where_it_is_evaluated_names_the_result_only_if_weights_are_selected_by_it(make_run: Callable[..., Run]) -> None:
    def names(*overrides: str) -> str:
        return chain.identify(make_run("stage=sft", *overrides), "sft").result_signature

    assert names("sft.eval_every=2") == names("sft.eval_every=3")
    assert names("sft.eval_every=2", "sft.keep_best=true") != names("sft.eval_every=3", "sft.keep_best=true")
    assert names() == names("early_stop.metric=eval/perplexity", "early_stop.min_delta=0.1")  # nothing asks for it
    following = ("sft.eval_every=2", "sft.keep_best=true")
    assert names(*following) == names(*following, "early_stop.metric=eval/loss", "early_stop.goal=minimize")
    assert names(*following) != names(*following, "early_stop.metric=eval/perplexity")
