"""Several sequences to a row, so that little is computed for padding. Each sees itself alone.

Shapes: B sequences padded to T tokens, which stand in R rows of W tokens; H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import torch
from torch import Tensor

from rlhf.algorithms.masks import positions


@dataclass(frozen=True)
class Packing:
    """Where the tokens of B sequences stand in R rows."""

    mask: Tensor  # [B, T] bool, true on real tokens
    place: Tensor  # [B, T] int64, of each real token among the R * W
    shape: tuple[int, int]
    """R and W."""

    @classmethod
    def of(cls, mask_BT: Tensor, longest: int) -> "Packing":
        """Lay the sequences into rows of at most ``longest`` tokens."""
        lengths: list[int] = mask_BT.sum(1).tolist()
        rows = least_padding(lengths, longest)
        width = max(sum(lengths[index] for index in row) for row in rows)
        start = torch.zeros(len(lengths), dtype=torch.long)
        for number, row in enumerate(rows):
            first = number * width
            for index in row:
                start[index] = first
                first += lengths[index]
        return cls(mask_BT, start.to(mask_BT.device)[:, None] + positions(mask_BT), (len(rows), width))

    def pack(self, values_BT: Tensor) -> Tensor:
        """``values_BT`` of the tokens at their places [R, W]; 0 where no token is."""
        rows, width = self.shape
        packed = values_BT.new_zeros(rows * width)
        packed[self.place[self.mask]] = values_BT[self.mask]
        return packed.view(rows, width)

    def unpack(self, values_RWH: Tensor) -> Tensor:
        """[B, T, H]: ``values_RWH`` of each token; what stands in padding has no meaning."""
        return values_RWH.flatten(0, 1)[self.place]

    def positions(self) -> Tensor:
        """Position of each token in its own sequence [R, W]."""
        return self.pack(positions(self.mask))

    def attention(self, implementation: str) -> Tensor:
        """Which token sees which [R, 1, W, W]: of its own sequence those up to itself.

        Networks find that out from positions, too, but not all of them do (OPT in transformers 5.23 does not).

        Args:
            implementation: of attention. `sdpa` takes true where a token is seen, `eager` adds the mask to its scores.
        """
        assert implementation in ("sdpa", "eager"), implementation
        owners = torch.arange(1, len(self.mask) + 1, device=self.mask.device)[:, None].expand_as(self.mask)
        owner = self.pack(owners)
        seen = (owner[:, None, :, None] == owner[:, None, None, :]).tril()  # padding sees padding, or its softmax were empty
        return seen if implementation == "sdpa" else (~seen).float() * torch.finfo(torch.float32).min


WORTH = 0.95
"""A longer row has to read less than this part of what shorter ones do: attention pays for its square."""


def least_padding(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Indices of the sequences in each of as many rows of at most ``longest`` tokens as leave the least padding.

    Of numbers of rows that are about as good the largest is taken. A row each is one of the ways, so there never is more
    padding than without packing.
    """
    rows = [[index] for index in range(len(lengths))]
    read = len(rows) * max(lengths)
    for count in range(len(rows) - 1, (sum(lengths) - 1) // longest, -1):
        found = evenly(lengths, count)
        width = max(sum(lengths[index] for index in row) for row in found)
        if width <= longest and count * width < WORTH * read:
            rows, read = found, count * width
    return rows


def evenly(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Indices of the sequences in ``count`` rows of about the same size: longest first, into the emptiest (Graham 1969)."""
    rows: list[tuple[int, int, list[int]]] = [(0, number, []) for number in range(count)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        tokens, number, indices = rows[0]
        heapreplace(rows, (tokens + lengths[index], number, [*indices, index]))
    return [indices for _, _, indices in sorted(rows, key=lambda row: row[1])]
