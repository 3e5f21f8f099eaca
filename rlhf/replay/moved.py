"""What an update did to trained weights: how far it moved them, and what they then were, to the bit."""

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

WEIGHTS = "/weights/"
"""In the names that ``Engine.tensors`` gives, between network and parameter."""


def distances(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """By network, as `moved/<network>`: the L2 norm of what was added to its trained weights, in parts of theirs before."""
    added: dict[str, float] = {}
    size: dict[str, float] = {}
    for name, now in _weights(after).items():
        network, was = name.partition(WEIGHTS)[0], before[name].double()
        added[network] = added.get(network, 0.0) + (now.cpu().double() - was.cpu()).square().sum().item()
        size[network] = size.get(network, 0.0) + was.square().sum().item()
    return {f"moved/{network}": (added[network] / max(size[network], 1e-300)) ** 0.5 for network in added}


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """By network: SHA-256 of its trained weights, in hex digits."""
    found: dict[str, Any] = {}
    for name, value in sorted(_weights(tensors).items()):
        digest = found.setdefault(name.partition(WEIGHTS)[0], hashlib.sha256())
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return {network: digest.hexdigest() for network, digest in found.items()}


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if WEIGHTS in name}
