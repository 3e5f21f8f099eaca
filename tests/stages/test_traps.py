"""The traps that DeepSpeed-Chat and its users fell into, one test each, where this code could fall into them too."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rlhf import chain
from rlhf.config import ArchConfig, Family, ModelConfig, Run, Template
from rlhf.data.records import Example, Turn
from rlhf.fault import Fault
from rlhf.models.load import load_scorer
from rlhf.models.tokenizer import same_tokens, train_tokenizer
from rlhf.rewards.model import sequence_scores
from rlhf.rewards.scale import Scale
from rlhf.rollout.sample import left_pad
from rlhf.stages.batches import Sequences
from rlhf.stages.examples import in_turns, tokens_of
from rlhf.stages.interface import Stage

CPU = torch.device("cpu")
TEXT = ["the quick brown fox jumps over the lazy dog", "a reply to a question"]


def example(prompt: str, response: str = "a reply", rejected: str | None = None) -> Example:
    return Example((Turn("user", prompt),), response, rejected, "test")


def test_trap_padding_is_not_in_the_sft_loss(build: Callable[..., Stage]) -> None:
    sft = build("sft")
    batch = next(sft.batches(0))[0]
    widened = Sequences(*(torch.nn.functional.pad(each, (0, 7)) for each in (batch.ids, batch.mask, batch.targets)))
    assert widened.weight == batch.weight
    assert sft.loss(widened)[0]["policy"].item() == pytest.approx(sft.loss(batch)[0]["policy"].item(), rel=1e-5)


def test_trap_prompt_is_not_in_the_sft_loss_unless_asked_for() -> None:
    rows = [([1, 5, 6], [7, 8, 2])]
    assert Sequences.of(rows, 0, CPU).targets.tolist() == [[False, False, False, True, True, True]]
    assert Sequences.demonstrated([(row, ((1, 3),)) for row in rows], 0, CPU).targets.tolist() == [
        [False, True, True, True, True, True]
    ]


def test_trap_all_stages_end_a_response_with_the_same_single_token(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "rollout.max_new_tokens=40")
    tokenizer = ppo.export()[1]
    eos = tokenizer.eos_token_id
    assert tokenizer.pad_token_id != eos
    rm, sft = build("rm"), build("sft")
    answers = next(rm.batches(0))[0].answers
    demonstrations = next(sft.batches(0))[0]
    for batch in (answers, demonstrations):
        last = batch.mask.sum(1) - 1
        assert (batch.ids.gather(1, last[:, None]) == eos).all()
        assert ((batch.ids == eos).sum(1) == 1).all()  # one token, not the seven that `<|endoftext|>` is to OPT
    rollout = next(next(ppo.batches(0)))
    ended = (rollout.ids == eos).any(1)
    assert ((rollout.ids == eos).sum(1)[ended] == 1).all()


@pytest.mark.parametrize("family", list(Family))
def test_trap_the_score_does_not_depend_on_the_side_or_amount_of_padding(family: Family) -> None:
    """`num_padding_at_beginning` read one pad too late for every model but OPT, and left padding gave NaN."""
    tokenizer = train_tokenizer(TEXT, 300, Template.roles)
    scorer = load_scorer(small_model(family), tokenizer, None, seed=0, fresh_head=True).eval()
    rows = [([1, 10, 11, 12], [20, 21, 2]), ([1, 13], [22, 2])]
    right = sequence_scores(scorer, Sequences.of(rows, 0, CPU))
    ids, mask = left_pad([prompt + response for prompt, response in rows], 0, CPU)
    left = sequence_scores(scorer, Sequences(ids, mask, torch.zeros_like(mask)))
    alone = torch.cat([sequence_scores(scorer, Sequences.of([row], 0, CPU)) for row in rows])
    assert torch.isfinite(right).all()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, right, rtol=1e-4, atol=1e-5)


def test_trap_truncation_takes_the_front_of_the_prompt_and_never_the_answer() -> None:
    tokenizer = train_tokenizer(TEXT, 300, Template.roles)
    ((prompt, response),) = tokens_of(tokenizer, [example("the quick brown fox " * 20)], [["a reply"]], max_length=32)[0] or []
    assert len(prompt) + len(response) == 32
    assert response[-1] == tokenizer.eos_token_id and tokenizer.decode(response[:-1]) == "a reply"
    assert prompt[0] == tokenizer.bos_token_id and tokenizer.decode(prompt[-1:]) == "<|assistant|>"
    assert tokens_of(tokenizer, [example("why")], [["fox " * 100]], max_length=32) == [None]  # too long: dropped, not cut


def test_trap_both_answers_of_a_pair_follow_the_same_prompt() -> None:
    """Cut to what each answer alone would leave, the longer answer's prompt lost more, and told the two apart."""
    tokenizer = train_tokenizer(TEXT, 300, Template.roles)
    answers = ["a reply", "a reply that is a good deal longer"]
    chosen, rejected = tokens_of(tokenizer, [example("the quick brown fox " * 20)], [answers], max_length=64)[0] or []
    assert chosen[0] == rejected[0]
    assert len(chosen[0]) + max(len(chosen[1]), len(rejected[1])) == 64


def test_trap_no_source_and_no_end_of_a_file_is_left_out_of_an_evaluation() -> None:
    """The first rows of a sorted file, or of the first source, say nothing of the rest."""
    examples = [replace(example(f"question {index}"), source="large" if index < 90 else "small") for index in range(100)]
    first = in_turns(examples, 20)
    assert {examples[index].source for index in first[:2]} == {"large", "small"}
    assert Counter(examples[index].source for index in first) == {"large": 20, "small": 10}
    assert max(index for index in first if index < 90) > 45 and first == in_turns(examples, 20)


def test_trap_runs_with_other_system_prompts_are_measured_on_the_same_questions() -> None:
    examples = [example(f"question {index}") for index in range(100)]
    assert in_turns([each.told("Be kind.") for each in examples], 20) == in_turns(examples, 20)


def test_trap_a_prompt_that_comes_twice_gets_two_responses(build: Callable[..., Stage]) -> None:
    ppo = build("ppo")
    prompt = ppo._online._prompts[0]
    rollout = ppo.rollout([prompt, prompt, prompt], "rollout/0")
    responses = {tuple(row[mask].tolist()) for row, mask in zip(rollout.ids, rollout.targets, strict=True)}
    assert len(responses) == 3


def test_trap_a_reward_model_that_says_nothing_is_refused_instead_of_blown_up(build: Callable[..., Stage]) -> None:
    ppo = build("ppo")
    with torch.no_grad():
        ppo._networks.reward.scorer.score.weight.zero_()
    with pytest.raises(Fault, match=r"ppo\.reward_normalization=reference: .* alike"):
        ppo._online.begin()


def test_trap_identical_pairs_are_passed_over(build: Callable[..., Stage]) -> None:
    rm = build("rm")
    same, different = rm._ranked([example("why", "same", "same"), example("why", "same", "other")])
    assert same is None and different is not None


def test_trap_the_decision_to_stop_is_rewarded_and_trained(build: Callable[..., Stage]) -> None:
    """DeepSpeed-Chat's end token was its pad token, so its action was masked."""
    ppo = build("ppo")
    eos = ppo.export()[1].eos_token_id
    rows = [([1, 9, 10], [20, eos]), ([1, 9], [21, 22, 23])]
    rollout = ppo.score_rollout([example for example, _ in ppo._online._prompts[:2]], rows)
    stops = (rollout.ids == eos) & rollout.targets
    assert stops.sum() == 1
    assert rollout.logprobs[stops].item() != 0 and rollout.advantages[stops].item() != 0
    single = replace(rollout, targets=stops, logprobs=rollout.logprobs - 0.1)  # only the stop decision is left in the loss
    ppo.loss(single)[0]["policy"].backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in ppo.trainable()["policy"].module.parameters())


def test_trap_scores_far_from_zero_do_not_saturate(build: Callable[..., Stage]) -> None:
    """A reward model whose scores average 9.7 was clipped at 5: every response had the same reward."""
    ppo = build("ppo", "ppo.reward_clip=5.0")
    online, eos = ppo._online, ppo.export()[1].eos_token_id
    online.scale = Scale(9.7, 2.0)
    online._reward = SimpleNamespace(score=lambda *_: torch.tensor([7.7, 9.7, 11.7]))
    examples, rows = [example for example, _ in online._prompts[:3]], [([1, 9], [20, eos])] * 3
    scores, ended, _ = online.scores(online.raw_scores(examples, rows), rows)
    assert scores.tolist() == pytest.approx([-1.0, 0.0, 1.0]) and ended.all()


def test_trap_rollouts_are_sampled_not_greedy(build: Callable[..., Stage]) -> None:
    ppo = build("ppo")
    prompts = ppo._online._prompts[:4]
    first, second = ppo.rollout(prompts, "a"), ppo.rollout(prompts, "b")
    assert first.ids.shape != second.ids.shape or not torch.equal(first.ids, second.ids)
    again = ppo.rollout(prompts, "a")
    assert torch.equal(first.ids, again.ids)


def test_trap_dropout_is_off_so_the_first_ratio_is_exactly_one(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.critic_warmup=0", "model.dropout=0.3", "reward_model.dropout=0.3")
    rollout = next(next(ppo.batches(0)))
    _, metrics = ppo.loss(rollout)
    assert metrics["val/ratio"].value == pytest.approx(1.0, abs=1e-6)
    assert metrics["policy/approxkl_avg"].value == pytest.approx(0.0, abs=1e-9)
    assert rollout.metrics["objective/kl"].value == pytest.approx(0.0, abs=1e-6)  # the policy starts as its reference


def test_trap_prompts_of_different_stages_do_not_meet_whatever_the_seeds(make_run: Callable[..., Run], tmp_path) -> None:
    """Without a seed in step 3, a fifth of DeepSpeed-Chat's PPO prompts were rows SFT had trained on."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "question {n}", "chosen": "yes {n}", "rejected": "no {n}"}}\n' for n in range(300)))
    source = ("data=local", f"data.sources.mine.path={rows}")
    seen = {stage: chain.load_corpus(make_run(*source, f"seed={seed}")) for seed, stage in enumerate(("sft", "rm", "ppo"))}
    keys = {stage: {each.key for each in corpus.examples(stage, "train")} for stage, corpus in seen.items()}
    held_out = {each.key for corpus in seen.values() for stage in keys for each in corpus.examples(stage, "held_out")}
    assert all(keys.values()) and held_out
    assert not keys["sft"] & keys["rm"] and not keys["sft"] & keys["ppo"] and not keys["rm"] & keys["ppo"]
    assert not held_out & (keys["sft"] | keys["rm"] | keys["ppo"])


def test_trap_evaluation_sees_every_held_out_pair(build: Callable[..., Stage]) -> None:
    """An evaluation of 100 batches measured another quantity for every batch size."""
    few, many = (build("rm", f"evaluation.micro_batch_size={size}").evaluate(0).metrics["eval/accuracy"] for size in (2, 16))
    assert few.count == many.count == 16
    assert few.value == pytest.approx(many.value)


def test_trap_a_response_may_end_at_once(build: Callable[..., Stage]) -> None:
    """A forced minimum length made every published response 256 tokens long."""
    ppo = build("ppo")
    tokenizer = ppo.export()[1]
    policy = ppo.trainable()["policy"].module
    with torch.no_grad():
        for parameter in policy.get_output_embeddings().parameters():
            parameter.zero_()
            parameter[tokenizer.eos_token_id] = 0.0
        policy.get_input_embeddings().weight.zero_()
    rollout = ppo.rollout(ppo._online._prompts[:8], "uniform")  # every token equally likely, the end token among them
    assert rollout.targets.sum(1).min() >= 1


def test_trap_a_saved_reward_model_scores_as_before(make_run: Callable[..., Run]) -> None:
    """Weights that were re-initialised on loading went unnoticed for two years."""
    result = chain.execute(make_run("stage=rm"))
    run = make_run("stage=rm")
    from rlhf.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(run.reward_model, (), result.artifact)
    rows = Sequences.of([([1, 9, 10], [20, tokenizer.eos_token_id])], tokenizer.pad_token_id, CPU)
    once, twice = (
        sequence_scores(load_scorer(run.reward_model, tokenizer, result.artifact, seed, fresh_head=False), rows)
        for seed in (0, 1)
    )
    assert torch.equal(once, twice)


def test_trap_a_reward_model_with_another_tokenizer_is_noticed() -> None:
    """It scored gibberish; now it reads the text anew."""
    policy = train_tokenizer(TEXT, 300, Template.roles)
    assert same_tokens(policy, train_tokenizer(TEXT, 300, Template.roles))
    assert not same_tokens(policy, train_tokenizer(["other words entirely"], 300, Template.roles))
    assert not same_tokens(policy, train_tokenizer(TEXT, 300, Template.dialogue))


def small_model(family: Family) -> ModelConfig:
    arch = ArchConfig(
        family=family,
        vocab_size=300,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=None,
        head_dim=None,
        ffn_size=128,
        max_positions=64,
        rope_theta=10000.0,
        rope_fraction=None,
        rope_factor=None,
        tie_embeddings=True,
        embed_size=None,
        norm_first=True,
        init_std=0.08,
    )
    return ModelConfig("small", None, None, Template.roles, 0.0, 0, False, arch, None, {})


def test_trap_the_k3_penalty_never_pays_for_leaving_the_sft_policy(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "ppo.kl_estimator=k3")
    with torch.no_grad():
        for parameter in ppo.trainable()["policy"].module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    rollouts = [ppo.rollout([prompt], "rollout/0").metrics for prompt in ppo._online._prompts[:8]]
    assert all(metrics["objective/non_score_reward"].value < 0 for metrics in rollouts)
    assert any(metrics["objective/kl"].value < 0 for metrics in rollouts)  # as k1 would have done
