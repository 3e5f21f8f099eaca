"""How well a scorer orders the pairs of each source of data, for the closing table and the report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ACCURACY = "eval/accuracy/"


@dataclass(frozen=True)
class OfSource:
    """Shares of the held-out pairs of one source; None where it is not known."""

    name: str
    pairs: int
    accuracy: float
    low: float
    """End of the 95 % interval of ``accuracy``, as ``high``."""
    high: float
    longer_wins: float
    """Accuracy of "the longer answer is the better one"."""
    first_preferred: float | None
    """How often the scorer prefers the answer that stood first."""
    first_wins: float | None
    """How often people did."""


def sources(metrics: Mapping[str, float]) -> Iterator[OfSource]:
    """Those that ``metrics`` of a result speak of."""
    for name in [key.removeprefix(_ACCURACY) for key in metrics if key.startswith(_ACCURACY)]:
        wanted = (f"eval/accuracy_low/{name}", f"eval/accuracy_high/{name}", f"baseline/longer_wins/{name}")
        if f"eval/pairs/{name}" in metrics and all(each in metrics for each in wanted):
            low, high, longer = (metrics[each] for each in wanted)
            places = (metrics.get(f"eval/first_preferred/{name}"), metrics.get(f"baseline/first_wins/{name}"))
            yield OfSource(name, int(metrics[f"eval/pairs/{name}"]), metrics[f"{_ACCURACY}{name}"], low, high, longer, *places)


def lines(metrics: Mapping[str, float]) -> list[str]:
    """A line a source for a terminal: accuracy, its interval, and that of "the longer answer wins"."""
    return [
        f"{each.name} {each.accuracy:.3f}  [{each.low:.3f}, {each.high:.3f}], longer {each.longer_wins:.3f}"
        for each in sources(metrics)
    ]
