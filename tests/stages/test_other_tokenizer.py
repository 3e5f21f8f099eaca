"""A reward model with a tokenizer of its own: it reads the text, in its own template and tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.rewards.ensemble import Ensemble
from rlhf.rewards.model import ModelReward, RereadingReward
from rlhf.stages.interface import Stage
from rlhf.stages.ppo import PPO
from tests.stages import small

OTHER = ("reward_model.arch.vocab_size=400", "reward_model.template=dialogue", "rm.init=base")


def test_reading_the_text_anew_changes_nothing_where_the_tokens_are_the_same(build: Callable[..., Stage]) -> None:
    """Ended and cut off responses alike."""
    ppo = build("ppo")
    assert isinstance(ppo, PPO) and isinstance(ppo._networks.reward, ModelReward)
    tokenizer, direct = ppo._tokenizer, ppo._networks.reward
    examples, prompts = zip(*ppo._online._prompts[:4], strict=True)
    texts = ["It opens at six.", "The bakery, on Mondays", "Hello!", "At two"]
    responses = response_tokens(tokenizer, texts)
    rows = [
        (ids, answer if index % 2 else answer[:-1]) for index, (ids, answer) in enumerate(zip(prompts, responses, strict=True))
    ]
    anew = RereadingReward(direct.scorer, tokenizer, tokenizer.eos_token_id, 48, direct.engine, 3)
    assert anew.reread(examples, texts, rows) == rows
    assert torch.equal(anew.score(examples, texts, rows), direct.score(examples, texts, rows))
    assert len(set(direct.score(examples, texts, rows).tolist())) == 4


def test_what_the_reward_model_reads_is_what_it_was_trained_on(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", *OTHER)
    assert isinstance(ppo, PPO) and isinstance(ppo._networks.reward, RereadingReward)
    reader = ppo._networks.reward.tokenizer
    assert reader.get_vocab() != ppo._tokenizer.get_vocab()
    example, prompt = ppo._online._prompts[0]
    answer = response_tokens(ppo._tokenizer, ["It opens at six."])[0]
    read = ppo._networks.reward.reread([example] * 2, ["It opens at six."] * 2, [(prompt, answer), (prompt, answer[:-1])])
    assert reader.decode(read[0][0] + read[0][1]).endswith("\n\nAssistant: It opens at six.<|eos|>")
    assert read[0] == (prompt_tokens(reader, example.turns, 48), response_tokens(reader, ["It opens at six."])[0])
    assert read[1] == (read[0][0], read[0][1][:-1])


def test_what_does_not_fit_the_reward_models_positions_is_cut(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", *OTHER)
    assert isinstance(ppo, PPO) and isinstance(ppo._networks.reward, RereadingReward)
    reward, (example, prompt) = replace(ppo._networks.reward, max_prompt_tokens=1000), ppo._online._prompts[0]
    long = "word " * 600
    ((asked, answer),) = reward.reread([example], [long], [(prompt, [5, ppo._tokenizer.eos_token_id])])
    assert len(asked) + len(answer) <= 512 and len(answer) == 504
    assert torch.isfinite(reward.score([example], [long], [(prompt, [5, ppo._tokenizer.eos_token_id])])).all()


def test_the_critic_starts_as_the_sft_policy_and_the_run_says_so(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("stage=ppo", *OTHER)
    parents = small.train_parents(tmp_path, run)
    ppo = small.build(run, TorchEngine(run.device, run.precision, run.deterministic), parents)
    assert isinstance(ppo, PPO)
    assert any("tokenizer of its own" in note for note in ppo.notes)
    trunk, policy = ppo._networks.critic.base_model.state_dict(), ppo._policies.policy.base_model.state_dict()
    assert trunk.keys() == policy.keys() and all(torch.equal(trunk[name], policy[name]) for name in trunk)
    assert not ppo._networks.critic_speaks_scores
    assert ppo._networks.critic.config.vocab_size != ppo._networks.reward.scorer.config.vocab_size

    forced = make_run("stage=ppo", *OTHER, "ppo.critic_init=reward_model")
    with pytest.raises(Fault, match=r"ppo\.critic_init=reward_model: it reads other tokens"):
        small.build(forced, TorchEngine(run.device, run.precision, run.deterministic), parents)


def test_a_whole_chain_with_two_tokenizers_finishes(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=ppo", *OTHER, "reward_model.arch.family=gpt2"))
    assert result.status.name == "finished", result.message
    assert "reward/gain" in result.metrics


def test_reward_models_that_score_together_each_read_in_their_own_tokens(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Brought by the user: the first reads the policy's tokens, the others text. Each says what it would say alone."""
    own = small.train_parents(tmp_path, make_run("stage=ppo"))
    other = small.train_parents(tmp_path, make_run("stage=ppo", *OTHER))["rm"]
    brought = (f"parents.sft={own['sft']}", f"parents.rm={own['rm']}", f"parents.rm_members=[{other}]")
    run = make_run("stage=ppo", "reward.members=2", *brought)
    result = chain.execute(run)
    assert result.status.name == "finished", result.message
    assert result.metrics["eval/disagreement"] > 0 and list(result.parents) == ["sft", "rm", "rm.1"]

    engine = TorchEngine(run.device, run.precision, run.deterministic)
    ppo = small.build(run, engine, {"sft": own["sft"], "rm": own["rm"], "rm.1": other})
    assert isinstance(ppo, PPO) and isinstance(ppo._networks.reward, Ensemble)
    reward, reads = ppo._online._reward, [type(member) for member in ppo._networks.reward.members]
    assert isinstance(reward, Ensemble) and reads == [ModelReward, RereadingReward] and ppo._networks.critic_speaks_scores
    examples, prompts = zip(*ppo._online._prompts[:4], strict=True)
    texts = ["It opens at six.", "The bakery, on Mondays", "Hello!", "At two"]
    rows = list(zip(prompts, response_tokens(ppo._tokenizer, texts), strict=True))
    alone = [scale(member.score(examples, texts, rows)) for member, scale in zip(reward.members, reward.scales, strict=True)]
    together = (reward.score(examples, texts, rows) - reward.scales[0].mean) / reward.scales[0].deviation
    torch.testing.assert_close(together, torch.stack(alone, 1), atol=1e-5, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 0.01


@pytest.mark.slow
def test_reward_models_that_score_together_may_all_read_text(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=ppo", *OTHER, "reward.members=3", "reward.pessimism=worst"))
    assert result.status.name == "finished", result.message
    assert result.metrics["eval/disagreement"] > 0 and list(result.parents) == ["sft", "rm", "rm.1", "rm.2"]
