"""Metrics that know how they add up over micro-batches, steps and ranks, so that none of these can change them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A weighted mean, kept as its sum and count."""

    total: float
    count: float

    @classmethod
    def of(cls, values: Tensor, mask: Tensor | None = None) -> "Mean":
        """Mean over all of ``values``, or over those where ``mask`` is true."""
        values = values.detach().float()
        if mask is None:
            return cls(values.sum().item(), values.numel())
        return cls(values.masked_fill(~mask, 0.0).sum().item(), mask.sum().item())

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """The mean; NaN if nothing was counted."""
        return self.total / self.count if self.count else float("nan")


@dataclass(frozen=True)
class Peak:
    """The largest value seen."""

    value: float

    def __add__(self, other: "Peak") -> "Peak":
        return Peak(max(self.value, other.value))


@dataclass(frozen=True)
class Total:
    """A plain sum: seconds, tokens."""

    value: float

    def __add__(self, other: "Total") -> "Total":
        return Total(self.value + other.value)


Metric = Mean | Peak | Total


class Metrics(Mapping[str, Metric]):
    """Named metrics; ``a + b`` adds those with the same name and keeps the others."""

    def __init__(self, metrics: Mapping[str, Metric] | None = None) -> None:
        self._metrics = dict(metrics or {})

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __add__(self, other: Mapping[str, Metric]) -> "Metrics":
        merged = dict(self._metrics)
        for name, metric in other.items():
            mine = merged.get(name)
            merged[name] = metric if mine is None else mine + metric  # type: ignore[operator]  # a name has one kind
        return Metrics(merged)

    def values_by_name(self) -> dict[str, float]:
        """Plain numbers for the record."""
        return {name: metric.value for name, metric in self._metrics.items()}
