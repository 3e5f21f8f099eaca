"""Runs that end before their time, and runs that keep their best weights: same bytes after a resume, also on ranks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf import chain
from rlhf.config import EarlyStopConfig, Goal, Run
from rlhf.metrics import Mean
from rlhf.result import Result
from rlhf.selection import Selection

GROWS_WORSE = ("stage=sft", "sft.eval_every=2", "sft.max_steps=12", "sft.learning_rate=3e-2", "sft.schedule=constant",
               "sft.warmup_steps=0", "sft.epochs=100", "data.max_train_examples=8")  # fmt: skip
"""Eight rows learnt by heart: the held-out loss falls, then rises."""


def follow(values: list[float], **fields: object) -> tuple[Selection, list[bool], list[int]]:
    given = {"metric": "m", "goal": Goal.maximize, "patience": 2, "min_delta": 0.5, "max_kl": None}
    kept: list[int] = []
    selection = Selection(EarlyStopConfig(**(given | fields)), "sft", kept.append)
    return selection, [selection.evaluated(round_, {"m": Mean(value, 1)}) for round_, value in enumerate(values)], kept


def test_patience_by_hand() -> None:
    selection, ends, kept = follow([1.0, 1.4, 2.0, 2.5, 1.0])  # 1.4 and 2.5 are no more than min_delta better
    assert ends == [False, False, False, False, True] and kept == [0, 2]
    assert (selection.best, selection.best_round, selection.waited) == (2.0, 2, 2)
    assert follow([1.0, 0.9, float("nan")])[1] == [False, False, True]
    assert follow([3.0, 2.0, 1.0], goal=Goal.minimize)[2] == [0, 1, 2]
    assert follow([1.0, 0.0, 0.0], patience=None)[1] == [False] * 3


def held_out_loss(result: Result) -> float:
    return result.metrics["eval/loss"]


def test_the_best_weights_are_kept(make_run: Callable[..., Run]) -> None:
    last, best = (chain.execute(make_run(*GROWS_WORSE, f"sft.keep_best={keep}")) for keep in ("false", "true"))
    assert last.run_signature != best.run_signature and held_out_loss(best) < held_out_loss(last)
    assert best.message.startswith("kept the weights of round ")
    rows = [line for line in (Path(best.folder) / "metrics.jsonl").read_text().splitlines() if '"kind": "eval"' in line]
    assert len(rows) == 8  # before, five on the way, the last, and the kept ones again
    assert not (Path(best.folder) / "best").exists()


def test_a_run_ends_early(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run(*GROWS_WORSE, "sft.keep_best=true", "early_stop.patience=1"))
    assert (result.status.name, result.reason, result.exit_code) == ("finished", "early_stop", 0)
    assert result.message.startswith("ended after ") and "of 12 rounds" in result.message
    again = chain.execute(make_run(*GROWS_WORSE, "sft.keep_best=true", "early_stop.patience=1"))
    assert again.folder == result.folder and again.seconds == result.seconds  # reused


def test_ppo_ends_when_it_has_gone_too_far(make_run: Callable[..., Run]) -> None:
    far = ("ppo.updates=6", "ppo.learning_rate=1e-2", "ppo.critic_warmup=0", "early_stop.max_kl=0.05")
    result = chain.execute(make_run(*far))
    assert result.reason == "early_stop" and result.metrics["eval/kl"] > 0.05


@pytest.mark.parametrize("system", [(), ("zero=1", "ranks=2", "offload=optimizer")], ids=["plain", "two ranks"])
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
