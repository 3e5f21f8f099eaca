"""How far two computations of the same updates are from each other, and where they part.

Figures (loss, gradient norms) are equal within 1e-5 x max(0.1, |x|), weights within a relative L2 distance of 1e-4, which is
what rounding in fp32 makes of five updates and no mistake does.

Adam divides a gradient by its own size, so it makes full steps of one that is nothing but rounding: that of the keys'
biases, which the softmax cancels, or of a row of the embedding that hardly occurs. Weights whose gradients are below
``NOISE`` of their network's are left out of the distances. A tensor counts as no smaller than its network's mean makes one
of its shape, since a bias that began at 0 is nothing but its updates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlhf.engine.base import Trainable, trained
from rlhf.engine.norm import vector_norm
from rlhf.invariants.updates import Row

FIGURES, SMALL = 1e-5, 0.1
"""Figures may differ by the first times max(the second, |x|)."""
WEIGHTS = 1e-4
"""Weights may differ by this, as relative L2 distance."""
GRADIENTS = 1e-3
"""A tensor's gradient counts as another one from this relative L2 distance on."""
NOISE = 1e-4
"""Of the root mean square of a network's gradients: below it they are rounding."""


@dataclass(frozen=True)
class Figure:
    """A figure of an update that is not what it should be."""

    update: int
    name: str
    expected: float
    got: float

    def __str__(self) -> str:
        return f"update {self.update}: {self.name} is {self.got:.7g}, not {self.expected:.7g}"


def wrong_figures(expected: Sequence[Row], rows: Sequence[Row], tolerance: float = FIGURES) -> list[Figure]:
    """The figures that are off by more than ``tolerance`` x max(0.1, |x|), in the order of updates, counted from 1."""
    return [
        Figure(update, name, value, row.get(name, float("nan")))
        for update, (wanted, row) in enumerate(zip(expected, rows, strict=True), 1)
        for name, value in wanted.items()
        if not off(value, row.get(name, float("nan"))) <= tolerance
    ]


def farthest(expected: Sequence[Row], rows: Sequence[Row], beginning: str) -> float:
    """The largest distance among figures whose names begin so, in parts of max(0.1, |x|)."""
    pairs = zip(expected, rows, strict=True)
    return max((off(value, row[name]) for want, row in pairs for name, value in want.items() if name.startswith(beginning)))


def off(expected: float, got: float) -> float:
    """Distance of two figures, in parts of max(0.1, |x|)."""
    return abs(got - expected) / max(SMALL, abs(expected))


@dataclass(frozen=True)
class Distance:
    """How far a tensor is from what it should be, in parts of its size."""

    weights: float
    gradient: float
    """Of the running mean of its gradients; 0 where the optimizer keeps none."""

    @property
    def differs(self) -> bool:
        """Whether that is more than rounding."""
        return not (self.weights <= WEIGHTS and self.gradient <= GRADIENTS)


def distances(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> dict[str, Distance]:
    """Distance of each trained tensor, by `network/parameter`; both are what ``Engine.tensors`` gives."""
    found = {}
    for network in dict.fromkeys(name.partition("/weights/")[0] for name in expected if "/weights/" in name):
        noise = NOISE * _mean(expected, network, "exp_avg_sq") ** 0.5
        floors = [
            (kind, share * _mean(expected, network, kind, square=True) ** 0.5)
            for kind, share in (("weights", 1.0), ("exp_avg", 0.01))
        ]
        for key in _keys(expected, network):
            squares = expected.get(f"{network}/exp_avg_sq/{key}")
            live = None if squares is None else squares.cpu().sqrt() > noise
            apart = []
            for kind, floor in floors:
                name = f"{network}/{kind}/{key}"
                apart.append(_apart(expected.get(name), got.get(name), live, floor))
            found[f"{network}/{key}"] = Distance(*apart)
    return found


def drift(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> float:
    """Largest relative L2 distance of a tensor, of all its weights."""
    assert expected.keys() == got.keys()
    return max(vector_norm(got[name] - tensor) / max(vector_norm(tensor), 1e-12) for name, tensor in expected.items())


def _keys(tensors: Mapping[str, Tensor], network: str) -> list[str]:
    beginning = f"{network}/weights/"
    return [name.removeprefix(beginning) for name in tensors if name.startswith(beginning)]


def _mean(tensors: Mapping[str, Tensor], network: str, kind: str, square: bool = False) -> float:
    """Mean of all that is kept of a kind for a network, or of its squares; 0 if nothing is."""
    parts = [tensors[name] for key in _keys(tensors, network) if (name := f"{network}/{kind}/{key}") in tensors]
    total = sum((part.float().square() if square else part.float()).sum().item() for part in parts)
    return total / max(sum(part.numel() for part in parts), 1)


def _apart(expected: Tensor | None, got: Tensor | None, live: Tensor | None, floor: float) -> float:
    """Relative L2 distance, of where ``live`` is true; ``floor`` is the least root mean square that counts as size."""
    if expected is None or got is None:
        return 0.0 if expected is got else float("inf")
    wanted, had = expected.float().cpu(), got.float().cpu()
    error = had - wanted
    if live is not None:
        error = error * live
    size = max(vector_norm(wanted), floor * wanted.numel() ** 0.5, 1e-12)
    return vector_norm(error) / size


class ForwardOrder:
    """The order in which the parameters of networks are first used, heard while they compute."""

    def __init__(self, trainable: Mapping[str, Trainable]) -> None:
        self._trainable = trainable
        self._used_first: dict[nn.Module, None] = {}
        owners = [module for each in trainable.values() for module in each.module.modules() if module._parameters]
        self._hooks = [module.register_forward_pre_hook(self._used) for module in owners]

    def _used(self, module: nn.Module, arguments: tuple[object, ...]) -> None:
        self._used_first.setdefault(module)

    def end(self) -> list[str]:
        """Stop listening; the names as `network/parameter`, what was never used last."""
        for hook in self._hooks:
            hook.remove()
        place: dict[int, int] = {}
        for owner in self._used_first:
            for parameter in owner._parameters.values():
                place.setdefault(id(parameter), len(place))  # tied weights where they are used first
        named = [(name, *pair) for name, each in self._trainable.items() for pair in trained(each.module)]
        networks = list(self._trainable)
        named.sort(key=lambda each: (networks.index(each[0]), place.get(id(each[2]), len(place))))
        return [f"{network}/{key}" for network, key, _ in named]


def rms_moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """How far all weights together moved, in parts of their size."""
    with torch.no_grad():
        moved = sum((after[name].float() - old.float()).square().sum().item() for name, old in before.items())
        size = sum(old.float().square().sum().item() for old in before.values())
    return (moved / max(size, 1e-30)) ** 0.5
