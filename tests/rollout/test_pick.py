"""One token from a row of logits and one uniform number."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf.rollout.sample import draw, noise

PROBABILITIES = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2])
N = 40_000
UNIFORM = (torch.arange(N) + 0.5) / N
"""As even as numbers can be, so that frequencies are probabilities up to rounding."""

CHI_SQUARE_999 = {3: 16.266, 4: 18.467}
"""99.9 % quantiles by degrees of freedom."""


def drawn(probabilities: Tensor, uniform: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Frequency of each token over the uniform numbers."""
    chosen = draw(probabilities.log().expand(len(uniform), -1), uniform, temperature, top_p).tokens
    return torch.bincount(chosen, minlength=len(probabilities)) / len(uniform)


def test_each_token_owns_its_share_of_the_unit_interval() -> None:
    # cumulative 0.1, 0.5, 0.5, 0.8, 1.0
    uniform = torch.tensor([0.0, 0.05, 0.15, 0.45, 0.55, 0.75, 0.85, 0.999])
    assert draw(PROBABILITIES.log().expand(8, -1), uniform, 1.0, 1.0).tokens.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    torch.testing.assert_close(drawn(PROBABILITIES, UNIFORM), PROBABILITIES, atol=1e-4, rtol=0)


def test_a_token_comes_with_its_log_probability_and_with_what_top_p_left_out() -> None:
    logits = PROBABILITIES.log().expand(3, -1)
    uniform = torch.tensor([0.2, 0.6, 0.9])  # of 0.9, which is left of 1 without the least likely
    drawn = draw(logits, uniform, 1.0, top_p=0.75)
    assert drawn.tokens.tolist() == [1, 3, 4]
    torch.testing.assert_close(drawn.logprobs.exp(), torch.tensor([0.4, 0.3, 0.2]).double())
    torch.testing.assert_close(drawn.cut, torch.full((3,), 0.1).double())
    sharp = draw(logits, uniform, 0.5, 1.0)
    torch.testing.assert_close(sharp.logprobs.exp(), (PROBABILITIES**2 / 0.3)[sharp.tokens].double())
    assert draw(logits, uniform, 0.0, 1.0).logprobs.exp().tolist() == pytest.approx([0.4] * 3)
    assert not sharp.cut.any()


def test_frequencies_match_probabilities_within_a_chi_square_bound() -> None:
    uniform = noise(["chi-square"], N)[0]
    kept = PROBABILITIES > 0
    expected = PROBABILITIES[kept] * N
    statistic = ((drawn(PROBABILITIES, uniform)[kept] * N - expected) ** 2 / expected).sum().item()
    assert statistic < CHI_SQUARE_999[3]
    wrong = torch.tensor([0.12, 0.4, 0.28, 0.2]) * N  # and a shift by 0.02 is seen
    assert ((drawn(PROBABILITIES, uniform)[kept] * N - wrong) ** 2 / wrong).sum().item() > CHI_SQUARE_999[3]


def test_temperature_divides_the_logits() -> None:
    # at temperature 0.5 probabilities are squared: 0.01, 0.16, 0, 0.09, 0.04 over their sum 0.3
    torch.testing.assert_close(drawn(PROBABILITIES, UNIFORM, temperature=0.5), PROBABILITIES**2 / 0.3, atol=1e-4, rtol=0)
    # at 2 their roots count
    torch.testing.assert_close(
        drawn(PROBABILITIES, UNIFORM, 2.0), PROBABILITIES.sqrt() / PROBABILITIES.sqrt().sum(), atol=1e-4, rtol=0
    )


def test_temperature_zero_takes_the_likeliest_whatever_the_noise() -> None:
    assert drawn(PROBABILITIES, UNIFORM, temperature=0.0).tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.35, [1]),  # 0.4 alone reaches it
        (0.4, [1]),  # exactly
        (0.41, [1, 3]),
        (0.7001, [1, 3, 4]),
        (0.95, [0, 1, 3, 4]),
        (1.0, [0, 1, 3, 4]),
        (1e-9, [1]),  # never nothing
    ],
)
def test_top_p_keeps_the_smallest_set_that_holds_it(top_p: float, kept: list[int]) -> None:
    expected = torch.zeros(5)
    expected[kept] = PROBABILITIES[kept] / PROBABILITIES[kept].sum()
    torch.testing.assert_close(drawn(PROBABILITIES, UNIFORM, top_p=top_p), expected, atol=1e-4, rtol=0)


def test_top_p_is_taken_of_the_tempered_distribution() -> None:
    # squared and scaled: 0.033, 0.533, 0, 0.3, 0.133: 0.5 is reached by one token, not by two as at temperature 1
    assert drawn(PROBABILITIES, UNIFORM, temperature=0.5, top_p=0.5).tolist() == [0, 1, 0, 0, 0]


@given(
    st.lists(st.one_of(st.floats(-30, 30), st.just(float("-inf"))), min_size=2, max_size=12).filter(lambda row: max(row) > -50),
    st.floats(0, 1, exclude_max=True, width=32),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
)
def test_an_impossible_token_is_never_picked(row: list[float], uniform: float, temperature: float, top_p: float) -> None:
    for number in (uniform, 0.0, 1 - 2**-24):
        chosen = draw(torch.tensor([row]), torch.tensor([number]), temperature, top_p).tokens.item()
        assert (torch.tensor(row) / temperature).double().softmax(-1)[chosen] > 0
