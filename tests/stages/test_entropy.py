"""What the entropy bonus adds to the losses of PPO, RLOO and GRPO and to their gradients, worked out from the logits."""

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


def gradient(stage: Stage, loss: Tensor) -> Tensor:
    """Of the policy's weights, as one vector."""
    weights = [weight for weight in stage.trainable()["policy"].module.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.cat([torch.zeros_like(w).flatten() if g is None else g.flatten() for w, g in zip(weights, found, strict=True)])


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ppo", ()), ("rloo", ()), ("grpo", ("grpo.weighting=token",)), ("grpo", ("grpo.weighting=sequence",))],
)
def test_entropy_lowers_the_loss_by_its_weight(name: str, settings: tuple[str, ...], build: Callable[..., Stage]) -> None:
    plain, paid = (build(name, *SETTINGS, *settings, f"{name}.entropy_coef={coef}") for coef in (0, COEF))
    (batch,) = record(plain, 1)
    bonus = (entropies(plain, batch) * batch.targets).sum(1)
    per_response = name == "rloo" or "grpo.weighting=sequence" in settings
    expected = -COEF * (bonus / batch.targets.sum(1) if per_response else bonus).sum()
    without, with_it = (stage.loss(batch)[0]["policy"] for stage in (plain, paid))
    assert expected < -1 and (with_it - without).item() == pytest.approx(expected.item(), rel=1e-4)
    wanted, less, more = gradient(plain, expected), gradient(plain, without), gradient(paid, with_it)
    assert wanted.norm() > 0.1
    torch.testing.assert_close(more - less, wanted, atol=1e-4 * wanted.norm().item(), rtol=1e-3)
