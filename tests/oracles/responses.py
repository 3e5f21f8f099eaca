"""A table of short responses, on which expectations are sums, and what brings it to where an expected gradient vanishes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

END, TOKENS = 0, 3
RESPONSES = [(END,), *((first, second) for first in (1, 2) for second in range(TOKENS))]
"""Up to two tokens; a first END is the whole response."""
LENGTHS = torch.tensor([len(response) for response in RESPONSES])
TOKEN = torch.tensor([(*each, END)[:2] for each in RESPONSES])
MASK = torch.arange(2) < LENGTHS[:, None]
REWARDS = torch.tensor([0.2, 0.9, 0.0, 0.5, 1.0, 0.3, 0.7], dtype=torch.float64)
FIRST = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64).log()
SECOND = torch.tensor([[1, 1, 1], [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64).log()

STEPS = 300


def logprobs(first: Tensor, second: Tensor) -> Tensor:
    """Log-probability [Y, 2] of each token of each response; 0 behind its end."""
    one, two = first.log_softmax(-1)[TOKEN[:, 0]], second.log_softmax(-1)[TOKEN[:, 0], TOKEN[:, 1]]
    return torch.stack([one, two], 1).masked_fill(~MASK, 0.0)


REFERENCE = logprobs(FIRST, SECOND)


def settled(tables: list[Tensor], loss: Callable[[Sequence[Tensor]], Tensor]) -> list[Tensor]:
    """Where ``tables`` end under gradient steps that grow smaller."""
    trained = [table.requires_grad_() for table in tables]
    optimizer = torch.optim.Adam(trained, lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(trained).backward()
        optimizer.step()
        schedule.step()
    return [table.detach() for table in trained]


def optimum(beta: float) -> Tensor:
    """Probabilities [Y] of pi_ref(y) exp(r(y) / beta) / Z."""
    return (REFERENCE.sum(1) + REWARDS / beta).softmax(-1)
