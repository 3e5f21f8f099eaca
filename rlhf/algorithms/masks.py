"""Sums over the tokens that count, and where they stand."""

from torch import Tensor
from torch.nn.functional import pad


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of ``values`` where ``mask`` is true; what stands under the mask may be anything, also NaN."""
    return values.masked_fill(~mask, 0.0).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is true; 0 for an empty mask."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True, unbiased: bool = False, eps: float = 1e-8) -> Tensor:
    """Scale to variance 1 over the mask, and shift the mean to 0 or keep it; 0 outside the mask.

    The variance is the mean of squared distances, or with ``unbiased`` their sum over one value less than there are.
    """
    mean = masked_mean(values, mask)
    variance = masked_sum((values - mean) ** 2, mask) / (mask.sum() - int(unbiased)).clamp(min=1)
    scaled = (values - mean) * (variance + eps).rsqrt()
    return (scaled if shift_mean else scaled + mean).masked_fill(~mask, 0.0)


def positions(mask_BT: Tensor) -> Tensor:
    """Position of each token among the true tokens of its row, so that padding may stand on either side."""
    return (mask_BT.long().cumsum(1) - 1).clamp(min=0)


def last_true(mask_BT: Tensor) -> Tensor:
    """Index [B] of the last true column of each row.

    Found from the mask and not from counts, so that padding may stand on either side. Every row needs a true column.
    """
    columns = mask_BT.long() * _arange_like(mask_BT)
    return columns.max(dim=1).values


def with_next(mask_BT: Tensor) -> Tensor:
    """``mask_BT`` with the column after each true one, as far as there are columns."""
    return mask_BT | pad(mask_BT[:, :-1], (1, 0))


def hold_last(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """``values_BT`` with the one at each row's last true column also in all columns after it."""
    last_B1 = last_true(mask_BT)[:, None]
    return values_BT.gather(1, _arange_like(mask_BT).minimum(last_B1))


def diverging_span(first_BT: Tensor, second_BT: Tensor, first_mask_BT: Tensor, second_mask_BT: Tensor) -> Tensor:
    """From the first column in which the tokens differ to the last true column of the longer row; for right-padded rows."""
    differ = (first_BT != second_BT) | (first_mask_BT != second_mask_BT)
    return differ.int().cummax(1).values.bool() & (first_mask_BT | second_mask_BT)


def _arange_like(mask_BT: Tensor) -> Tensor:
    return mask_BT.long().cumsum(1).new_ones(mask_BT.shape).cumsum(1) - 1
