"""PPO's switches, on a small real stage: each does what its key says."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf import chain
from rlhf.algorithms.kl import adapted_coefficient
from rlhf.config import Run
from rlhf.metrics import Mean
from rlhf.stages.interface import Stage


def test_the_coefficient_follows_the_kl_by_hand() -> None:
    # relative errors +0.1, and +2 and -1 that count as +-0.2; 50 of 100 responses
    assert adapted_coefficient(0.4, 6.6, 6.0, 50, 100) == pytest.approx(0.4 * 1.05)
    assert adapted_coefficient(0.4, 18.0, 6.0, 50, 100) == pytest.approx(0.4 * 1.1)
    assert adapted_coefficient(0.4, 0.0, 6.0, 50, 100) == pytest.approx(0.4 * 0.9)


def test_the_coefficient_adapts_after_each_update(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.kl_target=6", "ppo.kl_horizon=100", "ppo.kl_coef=0.5")
    rounds = ppo.batches(0)
    first, second = list(next(rounds)), list(next(rounds))
    kl, batch = first[0].metrics["objective/kl"].value, ppo._config.batch_size
    expected = adapted_coefficient(0.5, kl, 6.0, batch, 100)
    assert (first[0].metrics["objective/kl_coef"].value, second[0].metrics["objective/kl_coef"].value) == (0.5, expected)
    assert expected < 0.5  # the policy starts at the reference, so its KL is 0, below the target


def test_inner_epochs_end_once_the_policy_has_moved_far_enough(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.max_update_kl=0.01", "ppo.inner_epochs=5", "ppo.critic_warmup=0")
    minibatches = 0
    for minibatch in next(ppo.batches(0)):
        minibatches += 1
        ppo.loss(minibatch)
        if minibatches > ppo._config.minibatches:  # from the second pass on: as if a step had moved it
            ppo._moved += Mean(1e6, 1)
    assert minibatches == 2 * ppo._config.minibatches


def test_the_critic_may_learn_with_a_lambda_of_its_own(build: Callable[..., Stage]) -> None:
    ppo, other = build("ppo"), build("ppo", "ppo.value_lambda=1.0")
    first, second = next(next(ppo.batches(0))), next(next(other.batches(0)))
    torch.testing.assert_close(first.advantages, second.advantages)
    assert not torch.allclose(first.returns, second.returns)
    last = second.targets & ~torch.nn.functional.pad(second.targets[:, 1:], (0, 1))
    torch.testing.assert_close(first.returns[last], second.returns[last])  # of one step, whatever lambda


def test_text_is_mixed_in_with_its_weight(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.ptx_coef=2.0", "ppo.critic_warmup=0")
    batch = next(next(ppo.batches(0)))
    with_text, metrics = ppo.loss(batch)
    without, _ = ppo.loss(replace(batch, ptx=None))
    added = (with_text["policy"] - without["policy"]).item() / batch.weight  # as the loop divides
    assert added == pytest.approx(2.0 * metrics["loss/ptx_avg"].value, rel=1e-4)
    assert 0 < metrics["loss/ptx_avg"].value < 2 * math.log(640)
    parts = [ppo.loss(part)[0]["policy"].item() for part in batch.split(2)]
    assert sum(parts) == pytest.approx(with_text["policy"].item(), rel=1e-4)


def test_the_running_average_is_evaluated_saved_and_resumed(make_run: Callable[..., Run]) -> None:
    whole = chain.execute(make_run("ppo.ema_decay=0.5", "ppo.updates=3", "ppo.critic_warmup=0", "ppo.learning_rate=1e-2"))
    assert {"ema/reward/gain", "ema/response/repetition"} <= set(whole.metrics)
    average = AutoModelForCausalLM.from_pretrained(Path(whole.folder) / "artifact_ema").state_dict()
    last = AutoModelForCausalLM.from_pretrained(Path(whole.folder) / "artifact").state_dict()
    assert average.keys() == last.keys()
    assert any(not torch.equal(average[name], last[name]) for name in last)


def test_average_by_hand(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.ema_decay=0.75")
    weight = ppo._policies.policy.get_input_embeddings().weight
    name = next(key for key, value in ppo._policies.policy.named_parameters() if value is weight)
    values = (0.0, 4.0, 8.0)  # average 0; 0.75 * 0 + 0.25 * 4 = 1; 0.75 * 1 + 0.25 * 8 = 2.75
    for value in values:
        with torch.no_grad():
            weight.fill_(value)
        ppo._average.update()
    assert ppo._average.weights[name].unique().tolist() == [2.75]
    with ppo._average.swapped_in():
        assert weight.unique().tolist() == [2.75]
    assert weight.unique().tolist() == [8.0]
    kept = ppo.state()
    again = build("ppo", "ppo.ema_decay=0.75")
    again.restore(kept)
    assert torch.equal(again._average.weights[name], ppo._average.weights[name])


@pytest.mark.parametrize("critic", ["auto", "sft"])
def test_a_rule_needs_no_reward_model(critic: str, make_run: Callable[..., Run]) -> None:
    result = chain.execute(
        make_run("reward=function", "reward.function=length", "reward.target_words=12", f"ppo.critic_init={critic}")
    )
    assert set(result.parents) == {"sft"} and -1 <= result.metrics["eval/score_raw"] <= 0


def test_a_reward_of_ones_own_is_signed_by_its_content(make_run: Callable[..., Run], tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    file.write_text("def score(prompts, responses, solutions):\n    return [len(each) for each in responses]\n")
    run = make_run("reward=file", f"reward.path={file}:score")
    first = chain.identify(run, "ppo")
    file.write_text(file.read_text() + "# another\n")
    assert chain.identify(run, "ppo").result_signature != first.result_signature
