"""Metrics that cannot depend on how a batch was cut."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.metrics import Mean, Metrics, Peak, Total


def test_a_mean_counts_only_what_the_mask_keeps() -> None:
    values = torch.tensor([[1.0, float("nan")], [3.0, 8.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert Mean.of(values, mask) == Mean(12.0, 3)
    assert Mean.of(values, mask).value == 4.0
    assert Mean.of(torch.tensor([1.0, 2.0])).value == 1.5


def test_a_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Mean(0.0, 0).value)


def test_a_mean_of_micro_batches_is_not_the_mean_of_their_means() -> None:
    # 1 token of value 0 and 3 of value 4: 12 / 4 = 3, where averaging the averages would say 2
    parts = [Mean.of(torch.tensor([0.0])), Mean.of(torch.tensor([4.0, 4.0, 4.0]))]
    assert (parts[0] + parts[1]).value == 3.0


@given(st.lists(st.tuples(st.integers(-100, 100), st.booleans()), min_size=1, max_size=20), st.data())
def test_means_totals_and_peaks_are_the_same_over_any_split(rows: list[tuple[int, bool]], data: st.DataObject) -> None:
    values, mask = torch.tensor([float(value) for value, _ in rows]), torch.tensor([kept for _, kept in rows])

    def measure(part: slice) -> Metrics:
        mean, total = Mean.of(values[part], mask[part]), Total(float(values[part].sum()))
        peak = {"peak": Peak(values[part].max().item())} if values[part].numel() else {}
        return Metrics({"mean": mean, "total": total, **peak})

    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    pieces = [slice(start, end) for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    assert dict(sum(map(measure, pieces), Metrics())) == dict(measure(slice(None)))


def test_names_that_only_one_side_has_are_kept() -> None:
    both = Metrics({"a": Mean(1, 1), "b": Total(2)}) + Metrics({"b": Total(3), "c": Peak(4)})
    assert both.values_by_name() == {"a": 1.0, "b": 5, "c": 4}


def test_adding_does_not_change_what_was_added() -> None:
    first = Metrics({"a": Mean(1, 1)})
    _ = first + {"a": Mean(3, 1)}
    assert first["a"].value == 1.0
    assert len(first) == 1 and "b" not in first
    with pytest.raises(KeyError):
        _ = first["b"]
