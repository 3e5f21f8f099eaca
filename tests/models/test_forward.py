"""Log-probabilities and scores against transformers' own heads."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.masks import positions
from rlhf.config import Family, ModelConfig
from rlhf.models import forward
from rlhf.models.forward import recompute_activations, token_logprobs, token_scores
from rlhf.models.load import load_policy, load_scorer

ROWS = [[1, 9, 20, 33, 41, 2], [1, 7, 8], [1, 50, 60, 70, 2]]


def padded(side: str, fill: int = 0) -> tuple[Tensor, Tensor]:
    """The rows with padding on one side: ids and mask [3, 6]."""
    ids, mask = torch.full((3, 6), fill), torch.zeros(3, 6, dtype=torch.bool)
    for row, tokens in enumerate(ROWS):
        place = slice(6 - len(tokens), 6) if side == "left" else slice(0, len(tokens))
        ids[row, place], mask[row, place] = torch.tensor(tokens), True
    return ids, mask


def targets_of(mask: Tensor) -> Tensor:
    """Every token but the first of each row."""
    return mask & (positions(mask) > 0)


@pytest.fixture(params=[*Family, "opt350m"], ids=str)
def policy(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> PreTrainedModel:
    if request.param == "opt350m":
        return load_policy(model_config(Family.opt, embed_size=16, norm_first=False), tokenizer, None, seed=0).eval()
    return load_policy(model_config(request.param), tokenizer, None, seed=0).eval()


def plain_logprobs(policy: PreTrainedModel, tokens: list[int], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all tokens but the first, and the entropies, from the whole model's logits and no padding."""
    logits = policy(input_ids=torch.tensor([tokens])).logits[0, :-1].float() / temperature
    distribution = logits.log_softmax(-1)
    return distribution.gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0], -(distribution.exp() * distribution).sum(-1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_logprobs_equal_the_plain_softmax_whatever_the_padding(policy: PreTrainedModel, side: str, temperature: float) -> None:
    ids, mask = padded(side)
    targets = targets_of(mask)
    logprobs, entropies = token_logprobs(policy, ids, mask, targets, temperature)
    assert (logprobs[~targets] == 0).all() and (entropies[~targets] == 0).all()
    for row, tokens in enumerate(ROWS):
        expected, entropy = plain_logprobs(policy, tokens, temperature)
        torch.testing.assert_close(logprobs[row][targets[row]], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropies[row][targets[row]], entropy, rtol=1e-5, atol=1e-5)


def test_greedy_log_probabilities_are_those_of_the_untempered_distribution(policy: PreTrainedModel) -> None:
    ids, mask = padded("right")
    greedy, plain = (token_logprobs(policy, ids, mask, targets_of(mask), temperature)[0] for temperature in (0.0, 1.0))
    assert torch.equal(greedy, plain)


def test_what_stands_in_the_padding_does_not_matter(policy: PreTrainedModel) -> None:
    for side in ("left", "right"):
        results = []
        for fill in (0, 99):
            ids, mask = padded(side, fill)
            results.append(token_logprobs(policy, ids, mask, targets_of(mask))[0])
        torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_only_the_targets_are_computed(policy: PreTrainedModel) -> None:
    ids, mask = padded("right")
    some = targets_of(mask)
    some[:, :3] = False
    whole, part = token_logprobs(policy, ids, mask, targets_of(mask))[0], token_logprobs(policy, ids, mask, some)[0]
    torch.testing.assert_close(part[some], whole[some])
    assert (part[~some] == 0).all()


def test_no_target_at_all_gives_zeros(policy: PreTrainedModel) -> None:
    ids, mask = padded("right")
    assert (token_logprobs(policy, ids, mask, torch.zeros_like(mask))[0] == 0).all()


def test_chunks_change_neither_values_nor_gradients(policy: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = padded("left")
    targets = targets_of(mask)
    assert targets.sum() > 4
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    results, widest = [], []
    head = policy.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, output: widest.append(output.shape[0]))
    for elements in (forward.LOGITS_IN_MEMORY, 4 * 320):  # all eleven targets at once; four at a time
        monkeypatch.setattr(forward, "LOGITS_IN_MEMORY", elements)
        policy.zero_grad()
        logprobs, entropies = token_logprobs(policy, ids, mask, targets)
        (logprobs * weights).sum().backward()
        gradients = {
            name: parameter.grad.clone() for name, parameter in policy.named_parameters() if parameter.grad is not None
        }
        results.append((logprobs.detach(), entropies, gradients))
    hook.remove()
    assert widest[0] == 11 and max(widest[1:]) == 4
    (whole, whole_entropy, whole_gradients), (chunked, chunked_entropy, chunked_gradients) = results
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(chunked_entropy, whole_entropy, rtol=1e-6, atol=1e-6)
    assert whole_gradients.keys() == chunked_gradients.keys()
    for name, gradient in whole_gradients.items():
        torch.testing.assert_close(chunked_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_scores_equal_those_of_the_sequence_classifier(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    family = Family[policy.config.model_type]
    narrow = {"embed_size": 16, "norm_first": False} if getattr(policy.config, "word_embed_proj_dim", 32) == 16 else {}
    scorer = load_scorer(model_config(family, **narrow), tokenizer, None, seed=0, fresh_head=True).eval()
    ids, mask = padded("right", fill=tokenizer.pad_token_id)
    theirs = scorer(input_ids=ids, attention_mask=mask.long()).logits[:, 0]
    ours = token_scores(scorer, ids, mask)
    assert ours.shape == ids.shape
    last = mask.sum(1) - 1
    torch.testing.assert_close(ours[range(3), last], theirs, rtol=1e-5, atol=1e-5)
    assert len({round(each, 4) for each in theirs.tolist()}) == 3  # or equality would mean nothing
    left_ids, left_mask = padded("left", fill=tokenizer.pad_token_id)
    torch.testing.assert_close(token_scores(scorer, left_ids, left_mask)[:, -1], theirs, rtol=1e-4, atol=1e-5)


def test_positions_count_true_tokens() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    assert positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("family", [Family.opt, Family.gpt2])
def test_a_wrong_position_would_be_noticed(
    family: Family, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    """Or the agreement under left padding above would be empty (the other families only know how far apart tokens are)."""
    network = load_policy(model_config(family), tokenizer, None, seed=0).eval()
    ids = torch.tensor([ROWS[0]])
    shifted = network(input_ids=ids, position_ids=torch.arange(6)[None] + 3).logits
    assert not torch.allclose(shifted, network(input_ids=ids).logits, atol=1e-3)


def test_the_entropy_has_a_gradient_when_it_is_asked_for(policy: PreTrainedModel) -> None:
    """Against autograd through the plain logits."""
    ids, mask = torch.tensor([[1, 10, 20, 30, 2]]), torch.ones(1, 5, dtype=torch.bool)
    weight = policy.get_output_embeddings().weight
    logits = policy(ids).logits[:, :-1].log_softmax(-1)
    (expected,) = torch.autograd.grad(-(logits.exp() * logits).sum(), weight)
    entropies = token_logprobs(policy, ids, mask, targets_of(mask), entropy_gradient=True)[1]
    (got,) = torch.autograd.grad(entropies.sum(), weight)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    assert not token_logprobs(policy, ids, mask, targets_of(mask))[1].requires_grad


def test_under_bf16_the_softmax_is_in_fp32_unless_told_otherwise(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    policy = load_policy(model_config(Family.llama), tokenizer, None, seed=0).eval()
    ids, mask = padded("right")
    targets = targets_of(mask)
    with torch.autocast("cpu", torch.bfloat16):
        exact, coarse = (token_logprobs(policy, ids, mask, targets, fp32=fp32)[0] for fp32 in (True, False))
        logits = policy(input_ids=ids, attention_mask=mask).logits[:, :-1]
    assert logits.dtype is torch.bfloat16
    distribution = logits.float().log_softmax(-1)
    expected = distribution.gather(-1, ids[:, 1:, None]).squeeze(-1)[targets[:, 1:]]
    torch.testing.assert_close(exact[targets], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(coarse, coarse.bfloat16().float())  # each is a bf16 number
    assert not torch.equal(exact, exact.bfloat16().float())
    assert 0 < (coarse - exact).abs().max() < 0.05


@pytest.mark.filterwarnings("error::FutureWarning")
def test_activations_are_recomputed_without_a_word(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    network = load_policy(model_config(Family.llama), tokenizer, None, seed=0).train()
    recompute_activations(network)
    assert any(getattr(each, "gradient_checkpointing", False) for each in network.modules())
