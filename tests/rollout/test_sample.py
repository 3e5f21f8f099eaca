"""Sampled responses: whose noise they carry, where they end, and that greedy ones are transformers' own."""

import pytest
import torch
from transformers import PreTrainedModel

from rlhf.config import ArchConfig, Device, Family, ModelConfig, Precision, RolloutConfig, Template
from rlhf.engine.torch_engine import TorchEngine
from rlhf.models.forward import token_logprobs
from rlhf.models.load import load_policy
from rlhf.models.tokenizer import train_tokenizer
from rlhf.rollout.sample import Response, left_pad, noise, repeating, respond, sample, stream
from rlhf.stages import signs

EOS, PAD = 2, 0
PROMPTS = [[1, 10, 20, 30, 40, 50, 60], [1, 11], [1, 12, 22, 32], [1, 13, 23], [1]]
KEYS = [f"7/rollout/{index}" for index in range(len(PROMPTS))]
ENGINE = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
TOKENIZER = train_tokenizer(["It is Paris."] * 3, 280, Template.roles)


def rollout(**values: float) -> RolloutConfig:
    settings = {"max_prompt_tokens": 16, "max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0, "micro_batch_size": 8}
    return RolloutConfig(**{**settings, **values})  # type: ignore[arg-type]


def policy_of(family: Family, init_std: float = 0.2) -> PreTrainedModel:
    arch = ArchConfig(
        family=family,
        vocab_size=280,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=None,
        ffn_size=128,
        max_positions=64,
        rope_theta=10000.0,
        rope_fraction=0.5,
        rope_factor=None,
        tie_embeddings=False,
        embed_size=None,
        norm_first=True,
        init_std=init_std,
    )
    config = ModelConfig(
        name="little",
        path=None,
        revision=None,
        template=Template.roles,
        dropout=0.1,
        freeze_layers=0,
        freeze_embeddings=False,
        arch=arch,
        params=None,
        usual={},
    )
    return load_policy(config, TOKENIZER, None, seed=0)


@pytest.fixture(params=Family, ids=lambda family: family.name)
def policy(request: pytest.FixtureRequest) -> PreTrainedModel:
    return policy_of(request.param)


def draw(policy: PreTrainedModel, order: list[int] | None = None, **values: float) -> list[list[int]]:
    order = order if order is not None else list(range(len(PROMPTS)))
    return sample(
        ENGINE, policy, [PROMPTS[each] for each in order], [KEYS[each] for each in order], rollout(**values), EOS, PAD
    )


def test_greedy_responses_equal_generate(policy: PreTrainedModel) -> None:
    ours = draw(policy, temperature=0.0)
    policy.eval()
    ids, mask = left_pad(PROMPTS, PAD, torch.device("cpu"))
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": EOS, "pad_token_id": PAD}
    theirs = policy.generate(ids, attention_mask=mask.long(), **options)
    for row, response in enumerate(ours):
        generated = theirs[row, ids.shape[1] :].tolist()
        assert response == generated[: len(response)]
        assert all(token == PAD for token in generated[len(response) :])
        alone = policy.generate(torch.tensor([PROMPTS[row]]), attention_mask=torch.ones(1, len(PROMPTS[row])).long(), **options)
        assert response == alone[0, len(PROMPTS[row]) :].tolist()
    assert len({tuple(response) for response in ours}) > 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_how_many_are_generated_side_by_side_does_not_matter(policy: PreTrainedModel, size: int) -> None:
    assert draw(policy, micro_batch_size=size, top_p=0.9) == draw(policy, micro_batch_size=8, top_p=0.9)


def test_the_order_of_prompts_does_not_matter(policy: PreTrainedModel) -> None:
    order = [3, 0, 4, 2, 1]
    plain, shuffled = draw(policy), draw(policy, order=order, micro_batch_size=2)
    assert [shuffled[order.index(each)] for each in range(len(PROMPTS))] == plain


def test_another_key_gives_another_response_and_the_same_key_the_same(policy: PreTrainedModel) -> None:
    first, other, again = (
        sample(ENGINE, policy, [PROMPTS[0]] * 2, keys, rollout(), EOS, PAD) for keys in (["a", "b"], ["c", "a"], ["a", "b"])
    )
    assert first == again
    assert first[0] == other[1]
    assert first[0] != first[1]


def likely(policy: PreTrainedModel, token: int) -> None:
    """Let the policy say ``token`` every time."""
    with torch.no_grad():
        policy.get_output_embeddings().weight.zero_()
        policy.get_output_embeddings().weight[token] = (
            policy.base_model(input_ids=torch.tensor([[1]])).last_hidden_state[0, -1] * 50
        )


def test_a_response_ends_at_its_end_token_and_counts_it(policy: PreTrainedModel) -> None:
    with torch.no_grad():  # all 280 logits are equal, so the token is 280 times the uniform number, rounded down
        policy.get_output_embeddings().weight.zero_()
    keys = [f"end/{index}" for index in range(200)]
    responses = sample(ENGINE, policy, [[1, 10]] * 200, keys, rollout(max_new_tokens=40, micro_batch_size=200), EOS, PAD)
    expected = []
    for row in (noise(keys, 40).double() * 280).long().tolist():
        expected.append(row[: row.index(EOS) + 1] if EOS in row else row)
    assert responses == expected
    ended = [response for response in responses if response[-1] == EOS]
    assert 0 < len(ended) < 200
    assert any(PAD in response for response in responses)  # a sampled pad token is a token like any other


def test_a_policy_that_only_ends_stops_at_once() -> None:
    policy = policy_of(Family.llama)
    likely(policy.eval(), EOS)
    calls = []
    policy.base_model.register_forward_hook(lambda *_: calls.append(1))
    assert sample(ENGINE, policy, [[1]] * 3, ["a", "b", "c"], rollout(temperature=0.0), EOS, PAD) == [[EOS]] * 3
    assert len(calls) == 1


def test_a_policy_that_never_ends_is_cut_off() -> None:
    policy = policy_of(Family.llama)
    likely(policy.eval(), 5)
    assert sample(ENGINE, policy, [[1]], ["a"], rollout(max_new_tokens=4, temperature=0.0), EOS, PAD)[0][0] == 5
    assert len(sample(ENGINE, policy, [[1]], ["a"], rollout(max_new_tokens=4, temperature=0.0), EOS, PAD)[0]) == 4


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_sampling_and_the_mode_is_given_back(training: bool) -> None:
    policy = policy_of(Family.opt)
    policy.train(training)
    first = draw(policy)
    assert policy.training is training
    assert first == draw(policy)


def test_noise_is_a_function_of_the_key_alone() -> None:
    whole = noise(["a", "b"], 6)
    assert torch.equal(noise(["b"], 6)[0], whole[1])
    assert torch.equal(noise(["b"], 4)[0], whole[1, :4])  # a longer limit does not change the numbers before it
    assert not torch.equal(whole[0], whole[1])
    before = torch.get_rng_state()
    noise(["a"], 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_uniform() -> None:
    numbers = noise([str(index) for index in range(200)], 50).flatten()
    counts = torch.histc(numbers, bins=10, min=0, max=1)
    assert ((counts - 1000) ** 2 / 1000).sum().item() < 27.88  # 99.9 % quantile of chi-square with 9 degrees of freedom


def test_padding_stands_in_front() -> None:
    ids, mask = left_pad([[5, 6, 7], [8]], PAD, torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]


def test_frequencies_of_the_first_token_are_the_models(policy: PreTrainedModel) -> None:
    """From logits to tokens in one piece: 4000 responses of one token against the softmax."""
    count = 4000
    firsts = sample(
        ENGINE,
        policy,
        [[1, 10]] * count,
        [str(n) for n in range(count)],
        rollout(max_new_tokens=1, micro_batch_size=count),
        EOS,
        PAD,
    )
    with torch.no_grad():
        probabilities = policy.eval()(torch.tensor([[1, 10]])).logits[0, -1].double().softmax(-1)
    observed = torch.bincount(torch.tensor([response[0] for response in firsts]), minlength=280).double()
    top = probabilities.topk(20).indices
    spread = (count * probabilities * (1 - probabilities)).sqrt()
    assert ((observed - count * probabilities).abs()[top] < 4.1 * spread[top]).all()  # 20 tokens at 99.9 % in all


def test_a_stream_is_the_sample_token_by_token(policy: PreTrainedModel) -> None:
    """One path: who looks on while a response grows sees what `sample` returns."""
    policy.eval()
    with torch.no_grad():
        drawn = list(stream(policy, PROMPTS, noise(KEYS, 12), rollout(), EOS, PAD))
    tokens = torch.stack([each.tokens for each in drawn], 1).tolist()
    for row, response in zip(tokens, draw(policy), strict=True):
        assert row[: len(response)] == response and set(row[len(response) :]) <= {PAD}


def recomputed(policy: PreTrainedModel, responses: list[Response], temperature: float) -> dict[str, float]:
    """What `signs` says of ``responses`` beside the forward pass of training."""
    prompts, prompt_mask = left_pad(PROMPTS, PAD, torch.device("cpu"))
    ids, mask = (each.flip(1) for each in left_pad([response.ids[::-1] for response in responses], PAD, prompts.device))
    targets = torch.cat([torch.zeros_like(prompt_mask), mask], 1)
    with torch.no_grad():
        whole, present = torch.cat([prompts, ids], 1), torch.cat([prompt_mask, mask], 1)
        logprobs, _ = token_logprobs(policy.eval(), whole, present, targets, temperature)
    return {name: metric.value for name, metric in signs.of_sampler(logprobs, targets, responses).items()}


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.6), (0.0, 1.0)])
def test_the_sampler_says_of_its_tokens_what_training_works_out(
    policy: PreTrainedModel, temperature: float, top_p: float
) -> None:
    responses = respond(ENGINE, policy, PROMPTS, KEYS, rollout(temperature=temperature, top_p=top_p), EOS, PAD)
    told = recomputed(policy, responses, temperature)
    assert told["signs/sampler_error"] < 1e-5
    assert 0.1 < told["signs/mass_cut"] < 0.4 if top_p < 1 else told["signs/mass_cut"] < 1e-9
    assert recomputed(policy, responses, 1.4)["signs/sampler_error"] > 0.01  # another distribution is another number


@pytest.mark.parametrize(
    ("response", "size", "banned"),
    [
        ([5, 6, 7, 5, 6], 3, [7]),
        ([5, 6, 5, 8, 5], 2, [6, 8]),
        ([5, 6], 1, [5, 6]),
        ([5, 6], 3, []),
        ([5, 5, 5], 0, []),
    ],
)
def test_what_would_repeat_is_named(response: list[int], size: int, banned: list[int]) -> None:
    assert repeating(response, size) == banned


def test_a_bent_stream_never_repeats(policy: PreTrainedModel) -> None:
    ids: list[int] = []

    def bend(logits: torch.Tensor) -> torch.Tensor:
        logits[:, repeating(ids, 2)] = -torch.inf
        return logits

    policy.eval()
    with torch.no_grad():
        for drawn in stream(
            policy, PROMPTS[:1], noise(KEYS[:1], 40), rollout(max_new_tokens=40, temperature=0.0), 279, PAD, bend
        ):
            ids.append(int(drawn.tokens))
    pairs = list(zip(ids, ids[1:], strict=False))
    assert len(pairs) == len(set(pairs)) == 39
