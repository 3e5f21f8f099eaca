"""What the entropy bonus adds to the losses of PPO, RLOO and GRPO: worked out from the logits, and with the right sign."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.stages.batches import Responses, Rollout
from rlhf.stages.interface import Stage
from tests.stages.small import record

COEF, TEMPERATURE = 0.25, 0.7
SETTINGS = ("rollout.temperature=0.7", "ppo.critic_warmup=0")


def entropies(stage: Stage, batch: Responses | Rollout) -> Tensor:
    """Of the distribution that each token was drawn from, [B, T]."""
    positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
    policy = stage.trainable()["policy"].module
    logits = policy(input_ids=batch.ids, attention_mask=batch.mask.long(), position_ids=positions).logits / TEMPERATURE
    probabilities = logits.double().softmax(-1)
    found = -(probabilities * probabilities.log()).sum(-1)
    return torch.cat([torch.zeros_like(found[:, :1]), found[:, :-1]], 1)  # the logits of a token stand before it


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ppo", ()), ("rloo", ()), ("grpo", ("grpo.weighting=token",)), ("grpo", ("grpo.weighting=sequence",))],
)
def test_entropy_lowers_the_loss_by_its_weight(name: str, settings: tuple[str, ...], build: Callable[..., Stage]) -> None:
    plain, paid = (build(name, *SETTINGS, *settings, f"{name}.entropy_coef={coef}") for coef in (0, COEF))
    (batch,) = record(plain, 1)
    with torch.no_grad():
        bonus = (entropies(plain, batch) * batch.targets).sum(1)
    lengths = batch.targets.sum(1)
    per_response = name == "rloo" or "grpo.weighting=sequence" in settings
    expected = -COEF * (bonus / lengths if per_response else bonus).sum().item()
    without, with_it = (stage.loss(batch)[0]["policy"].item() for stage in (plain, paid))
    assert expected < -1 and with_it - without == pytest.approx(expected, rel=1e-4)
