"""Estimators of KL on distributions small enough to enumerate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.algorithms.kl import approximate_kl, k1, k3

PI = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
REFERENCE = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
# KL = 0.5 ln(0.5/0.25) + 0.25 ln(0.25/0.25) + 0.25 ln(0.25/0.5) = 0.5 ln 2 - 0.25 ln 2 = 0.25 ln 2
EXACT = 0.25 * 0.6931471805599453


def test_both_estimators_have_the_exact_kl_as_their_expectation() -> None:
    assert (PI * k1(PI.log(), REFERENCE.log())).sum().item() == pytest.approx(EXACT, abs=1e-12)
    assert (PI * k3(PI.log(), REFERENCE.log())).sum().item() == pytest.approx(EXACT, abs=1e-12)


def test_values_by_hand() -> None:
    # action 0: pi / pi_ref = 2, so k1 = ln 2, and k3 = 1/2 - 1 + ln 2; action 2: ratio 1/2, k1 = -ln 2, k3 = 2 - 1 - ln 2
    ln2 = 0.6931471805599453
    assert k1(PI.log(), REFERENCE.log()).tolist() == pytest.approx([ln2, 0.0, -ln2])
    assert k3(PI.log(), REFERENCE.log()).tolist() == pytest.approx([ln2 - 0.5, 0.0, 1 - ln2])
    # the update moved a token's log-probability by 0.2: 0.5 * 0.04
    assert approximate_kl(torch.tensor(-1.0), torch.tensor(-1.2)).item() == pytest.approx(0.02)


weights = st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4)


@given(weights, weights)
def test_the_expectations_hold_for_any_distributions(first: list[float], second: list[float]) -> None:
    pi, reference = (torch.tensor(each, dtype=torch.float64) / sum(each) for each in (first, second))
    exact = (pi * (pi / reference).log()).sum().item()
    assert (pi * k1(pi.log(), reference.log())).sum().item() == pytest.approx(exact, abs=1e-9)
    assert (pi * k3(pi.log(), reference.log())).sum().item() == pytest.approx(exact, abs=1e-9)
    assert (k3(pi.log(), reference.log()) >= -1e-12).all()
