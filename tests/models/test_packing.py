"""Sequences that share rows: where they stand, by hand, and that each computes as it does alone, in every family."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.config import Family, ModelConfig
from rlhf.models.forward import recompute_activations, token_logprobs
from rlhf.models.load import load_policy
from rlhf.models.packable import PACKABLE, fault
from rlhf.models.packing import Packing, evenly, least_padding

ROWS = [[1, 9, 20, 33, 41, 50, 2], [1, 7], [1, 50, 60, 70, 2], [1, 90, 2]]
LONGEST = 9
"""They go into two rows: 7 + 2 and 5 + 3 tokens."""


def padded(rows: list[list[int]], left: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and mask of ``rows``, with columns of padding on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * left + row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[0] * left + [1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=torch.bool)
    return ids, mask


def targets_of(mask: Tensor) -> Tensor:
    """Every token but the first of each row."""
    return mask & (mask.cumsum(1) > 1)


def test_rows_of_a_given_number_are_filled_evenly() -> None:
    assert evenly([7, 2, 5, 3], 2) == [[0, 1], [2, 3]]  # 7; 5; 3 to the 5, which makes 8; 2 to the 7
    assert evenly([3, 3, 2, 2, 2], 2) == [[0, 2, 4], [1, 3]]  # 7 and 5, where 6 and 6 were possible: near the best
    assert evenly([1, 4], 2) == [[1], [0]]


@pytest.mark.parametrize(
    ("lengths", "longest", "rows"),
    [
        ([7, 2, 5, 3], 9, [[0, 1], [2, 3]]),  # 18 columns for 17 tokens; three rows take 21, four 28
        ([7, 2, 5, 3], 17, [[0, 2, 3, 1]]),  # all in one, without padding
        ([7, 2, 5, 3], 8, [[0], [2], [3, 1]]),  # two rows would be 9 wide
        ([4, 4, 4, 4], 8, [[0], [1], [2], [3]]),  # no padding as they are
        ([45, 40, 40, 40], 128, [[0, 3], [1, 2]]),  # 170 columns; three in a row and one alone would take 250, more than four
        ([5, 1, 1], 7, [[0, 1, 2]]),
        ([6, 3, 3], 6, [[0], [1, 2]]),
        ([3], 8, [[0]]),
    ],
)
def test_as_many_rows_as_leave_the_least_padding(lengths: list[int], longest: int, rows: list[list[int]]) -> None:
    assert least_padding(lengths, longest) == rows


@pytest.mark.parametrize("left", [0, 2])
def test_where_the_tokens_stand(left: int) -> None:
    ids, mask = padded(ROWS, left)
    packing = Packing.of(mask, LONGEST)
    assert packing.shape == (2, 9)
    assert packing.pack(ids).tolist() == [[1, 9, 20, 33, 41, 50, 2, 1, 7], [1, 50, 60, 70, 2, 1, 90, 2, 0]]
    assert packing.positions().tolist() == [[0, 1, 2, 3, 4, 5, 6, 0, 1], [0, 1, 2, 3, 4, 0, 1, 2, 0]]
    back = packing.unpack(packing.pack(ids)[..., None])[..., 0]
    assert torch.equal(back[mask], ids[mask])


def test_which_token_sees_which() -> None:
    _, mask = padded([[1, 2, 3], [4, 5], [6, 7, 8, 9]])
    packing = Packing.of(mask, 5)
    assert packing.pack(mask.long()).tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    seen = packing.attention("sdpa")
    assert seen.dtype is torch.bool and seen.shape == (2, 1, 5, 5)
    assert seen[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert seen[0, 0, 4].tolist() == [False, False, False, False, True]  # padding sees padding, and nobody else does
    added = packing.attention("eager")
    assert torch.equal(added == 0, seen) and (added[~seen] < -1e38).all()


@pytest.fixture(params=PACKABLE)
def policy(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> PreTrainedModel:
    return load_policy(model_config(Family[request.param]), tokenizer, None, seed=0).train()


def learnt(policy: PreTrainedModel, packed: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Log-probabilities and entropies [B, T], and the gradient of the loss by parameter."""
    ids, mask = padded(ROWS)
    policy.zero_grad()
    packing = Packing.of(mask, LONGEST) if packed else None
    logprobs, entropies = token_logprobs(policy, ids, mask, targets_of(mask), packing=packing)
    (-logprobs.sum()).backward()
    gradients = {name: each.grad.clone() for name, each in policy.named_parameters() if each.grad is not None}
    return logprobs.detach(), entropies, gradients


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_values_and_gradients_are_those_of_rows_of_their_own(policy: PreTrainedModel, attention: str, recomputed: bool) -> None:
    policy.set_attn_implementation(attention)
    if recomputed:
        recompute_activations(policy)
    logprobs, entropies, gradients = learnt(policy, packed=False)
    packed_logprobs, packed_entropies, packed_gradients = learnt(policy, packed=True)
    torch.testing.assert_close(packed_logprobs, logprobs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed_entropies, entropies, rtol=1e-5, atol=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_another_sequence_of_the_row_says_does_not_matter(policy: PreTrainedModel, attention: str) -> None:
    policy.set_attn_implementation(attention)
    for changed in range(len(ROWS)):
        results = []
        for shift in (0, 3):
            ids, mask = padded(ROWS)
            ids[changed] += shift
            results.append(token_logprobs(policy, ids, mask, targets_of(mask), packing=Packing.of(mask, LONGEST))[0])
        others = torch.arange(len(ROWS)) != changed
        assert torch.equal(results[0][others], results[1][others])
        assert not torch.equal(results[0][changed], results[1][changed])


def test_networks_that_are_not_known_to_keep_texts_apart_are_refused() -> None:
    assert set(PACKABLE) == {"llama", "opt", "gpt_neox", "gpt2", "qwen3"}
    assert fault("mine", "llama", 512) is None and fault("mine", "qwen3", 512, window=512) is None
    assert "sft.packing=true: model=bloom560m is a bloom, and only" in (fault("bloom560m", "bloom", 512) or "")
    assert "sees 256 tokens back, fewer than sft.max_length=512" in (fault("mine", "qwen3", 512, window=256) or "")
