"""What stages ask of a network: log-probabilities of tokens, and a score for each token.

Shapes: B sequences, T tokens, N selected tokens, H hidden size, V vocabulary. No tensor of [B, T, V] is ever made: logits
exist for one chunk of selected tokens at a time, and are recomputed in the backward pass when there is more than one.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf.algorithms.masks import positions
from rlhf.models.packing import Packing

LOGITS_IN_MEMORY = 2**26
"""Elements of the largest chunk of logits, [chunk, V]: 256 MiB in fp32."""


@contextmanager
def logits_in_memory(elements: int) -> Iterator[None]:
    """Let the largest chunk of logits have ``elements`` elements, to see that its size does not matter."""
    global LOGITS_IN_MEMORY
    before, LOGITS_IN_MEMORY = LOGITS_IN_MEMORY, elements
    try:
        yield
    finally:
        LOGITS_IN_MEMORY = before


def recompute_activations(network: PreTrainedModel) -> None:
    """Keep no activations inside blocks for the backward pass (gradient checkpointing); heard in training mode only."""
    renamed = getattr(network, "activation_checkpointing_enable", None)  # its name in later versions of transformers 5
    (renamed or network.gradient_checkpointing_enable)()


def hidden_states(model: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor, packing: Packing | None = None) -> Tensor:
    """Last hidden states [B, T, H] of the trunk.

    Args:
        packing: how the sequences share rows; None: each has one of its own.
    """
    trunk = model.base_model
    if packing is None:
        ids, attention = ids_BT, mask_BT.long()
        extra = {"position_ids": positions(mask_BT)} if takes_positions(trunk) else {}
    else:
        ids, attention = packing.pack(ids_BT), packing.attention(model.config._attn_implementation)
        extra = {"position_ids": packing.positions()}
    hidden: Tensor = trunk(input_ids=ids, attention_mask=attention, use_cache=False, **extra).last_hidden_state
    return hidden if packing is None else packing.unpack(hidden)


def token_logprobs(
    model: PreTrainedModel,
    ids_BT: Tensor,
    mask_BT: Tensor,
    targets_BT: Tensor,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
    fp32: bool = True,
    packing: Packing | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target token given what stands before it, and the entropy of the distribution it came from.

    Args:
        targets_BT: true where a log-probability is wanted; never in column 0.
        fp32: work them out in fp32 whatever format the logits have.
        temperature: logits are divided by it, as in sampling (Huang et al. 2024, detail 10); 0 (greedy) counts as 1.
        packing: as for ``hidden_states``; then no target may be padding.

    Returns:
        log-probabilities [B, T] and entropies [B, T] (without gradient unless asked for), in nats, 0 where no target is.
    """
    hidden = hidden_states(model, ids_BT, mask_BT, packing)
    wanted = targets_BT[:, 1:]
    hidden_NH, targets_N = hidden[:, :-1][wanted], ids_BT[:, 1:][wanted]
    head = model.get_output_embeddings()
    chunk = max(1, LOGITS_IN_MEMORY // head.weight.shape[0])
    settings, pieces = (temperature or 1.0, entropy_gradient, fp32), []
    for piece_NH, piece_N in zip(hidden_NH.split(chunk), targets_N.split(chunk), strict=True):
        if torch.is_grad_enabled() and len(targets_N) > chunk:
            pieces.append(checkpoint(_logprobs, head, piece_NH, piece_N, *settings, use_reentrant=False))
        else:
            pieces.append(_logprobs(head, piece_NH, piece_N, *settings))
    shape = ids_BT.shape
    place = targets_BT.clone()
    place[:, 0] = False
    logprobs_N = torch.cat([piece[0] for piece in pieces]) if pieces else hidden.new_zeros(0)
    entropies_N = torch.cat([piece[1] for piece in pieces]) if pieces else hidden.new_zeros(0)
    logprobs = torch.zeros(shape, dtype=torch.float32, device=ids_BT.device).masked_scatter(place, logprobs_N.float())
    entropies = torch.zeros(shape, dtype=torch.float32, device=ids_BT.device).masked_scatter(place, entropies_N.float())
    return logprobs, entropies


def token_scores(scorer: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The scorer's head on every token: [B, T]."""
    head = cast(nn.Linear, scorer.score)
    scores: Tensor = head(hidden_states(scorer, ids_BT, mask_BT)).squeeze(-1)
    return scores.float()


def _logprobs(
    head: nn.Module, hidden_NH: Tensor, targets_N: Tensor, temperature: float, entropy_gradient: bool, fp32: bool
) -> tuple[Tensor, Tensor]:
    logits = head(hidden_NH)
    with torch.autocast(logits.device.type, enabled=False):  # it would take the softmax in fp32 by itself
        distribution = ((logits.float() if fp32 else logits) / temperature).log_softmax(-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy = -(distribution.exp() * distribution).sum(-1)
        return distribution.gather(-1, targets_N[:, None]).squeeze(-1), entropy


def takes_positions(trunk: nn.Module) -> bool:
    """Whether this kind of network wants position ids (others work them out from the mask)."""
    return "position_ids" in inspect.signature(trunk.forward).parameters
