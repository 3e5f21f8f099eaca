"""Signs that a stage computes what it says: numbers with one value, 0 or 1, wherever all is well. ``doctor`` looks at them.

They come from tensors that are there anyway, and cost nothing beside a forward pass. Shapes: B sequences, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from rlhf.algorithms.masks import last_true, masked_sum
from rlhf.metrics import Mean, Metric, Peak
from rlhf.rollout.sample import Response
from rlhf.stages.batches import Sequences

PROBED = 8
"""Sequences that an evaluation reads a second time, each alone."""


def of_demonstrations(batch: Sequences, tokenizer: PreTrainedTokenizerBase) -> dict[str, Metric]:
    """Of sequences that are learnt from: what is learnt of them, and how they begin and end."""
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    ids, rows = batch.ids, len(batch.ids)
    last = last_true(batch.mask)[:, None]
    ends = ids.eq(eos)
    learnt = (ends & batch.targets).gather(1, last) & ~ends.gather(1, (last - 1).clamp(min=0))
    begins = ids[:, :2].eq(-1 if bos is None else bos).all(1)
    counts = [learnt.sum(), begins.sum(), batch.targets[:, 1].sum(), (batch.targets & ~batch.mask).sum(), batch.targets.sum()]
    ended, doubled, prompts, padding, targets = torch.stack(counts).tolist()
    return {
        "signs/ends_learnt": Mean(ended, rows),
        "signs/begin_doubled": Mean(doubled, rows),
        "signs/prompt_learnt": Mean(prompts, rows),
        "signs/padding_learnt": Mean(padding, targets),
    }


def of_sampling(logprobs: Tensor, entropies: Tensor, targets: Tensor) -> dict[str, Metric]:
    """Of sampled tokens [B, T]: their surprise, - log pi, beyond what their distributions make one expect, the entropy.

    Its mean is 0 if they were sampled from these very distributions; z is the mean in standard errors.
    """
    beyond = -logprobs - entropies
    total, squares = masked_sum(beyond, targets).item(), masked_sum(beyond**2, targets).item()
    return {
        "signs/surprise": Mean(total, targets.sum().item()),
        "signs/surprise_z": Mean(total / max(squares, 1e-12) ** 0.5, 1),
    }


def of_sampler(logprobs: Tensor, targets: Tensor, sampled: Sequence[Response]) -> dict[str, Metric]:
    """Of sampled tokens [B, T]: how far their log-probabilities are from those their sampler gave them, and what top_p cut.

    Args:
        sampled: of each row, whose responses end in the same columns if padded to one length; empty: nothing is known.
    """
    if not sampled:
        return {}
    theirs = pad_sequence([torch.tensor(each.logprobs) for each in sampled], batch_first=True).to(logprobs)
    apart = (logprobs[:, -theirs.shape[1] :] - theirs).abs()
    cut = [part for each in sampled for part in each.cut]
    return {
        "signs/sampler_error": Mean.of(apart, targets[:, -theirs.shape[1] :]),
        "signs/mass_cut": Mean(sum(cut), len(cut)),
    }


def of_ends(ids: Tensor, targets: Tensor, ended: Tensor, eos: int) -> dict[str, Metric]:
    """Of sampled responses [B, T]: the share of those that ended whose last action is the end token; nothing if none did."""
    if not ended.any():
        return {}
    last = last_true(targets)[:, None]
    return {"signs/ends_learnt": Mean.of(ids.gather(1, last).squeeze(1).eq(eos).float(), ended)}


def of_rewards(rewards: Tensor, costs: Tensor, scores: Tensor, targets: Tensor) -> dict[str, Metric]:
    """Of token rewards [B, T]: what a response gets in all, and how often its score stands on its last token.

    Args:
        costs: the penalty of each token.
        scores: of the responses [B].
    """
    received = (rewards + costs).masked_fill(~targets, 0.0)
    at_end = received.gather(1, last_true(targets)[:, None]).squeeze(1)
    missed = (at_end - scores).abs() > 1e-3 * scores.abs().clamp(min=1.0)
    return {
        "signs/token_rewards": Mean.of(rewards.masked_fill(~targets, 0.0).sum(1)),
        "signs/score_at_end": Mean.of(1.0 - missed.float()),
        **of_lengths(scores, targets),
    }


def of_clip(scores: Tensor, clip: float | None) -> dict[str, Metric]:
    """The share of scores, as they were before, that the clip has cut; nothing without one."""
    return {} if clip is None else {"objective/score_clipped": Mean.of((scores.abs() > clip).float())}


def of_lengths(scores: Tensor, targets: Tensor) -> dict[str, Metric]:
    """The correlation of score and length over the responses; nothing where either is the same for all."""
    pair = torch.stack([scores.float(), targets.sum(1).float()])
    if min(pair.std(1, correction=0).tolist()) < 1e-6:
        return {}
    return {"objective/length_correlation": Mean(torch.corrcoef(pair)[0, 1].item(), 1)}


def of_advantages(
    rewards: Tensor, values: Tensor, advantages: Tensor, returns: Tensor, targets: Tensor, valued: Tensor
) -> dict[str, Metric]:
    """Of advantages and returns [B, T]: their scale, what stands on padding, and whether the critic is off from the start.

    Args:
        valued: where the critic is asked.
    """
    kept, got = advantages[targets], returns[valued]
    last = last_true(valued)[:, None]
    at_end = (returns - rewards).gather(1, last).abs()
    spread = got.std(correction=0).clamp(min=1e-6)
    outside = torch.maximum(advantages.abs(), returns.abs()).masked_fill(valued, 0.0)
    return {
        "signs/advantage_mean": Mean.of(kept),
        "signs/advantage_sd": Mean(kept.std(correction=0).item(), 1),
        "signs/padding_credit": Peak(outside.max().item()),
        "signs/return_end_error": Mean.of(at_end),
        "val/value_bias": Mean(((values[valued] - got).mean() / spread).item(), 1),
    }


def of_first_step(loss: Tensor, ratio: Tensor, advantages: Tensor, targets: Tensor) -> dict[str, Metric]:
    """Before anything is learnt from a rollout: how far ratios are from 1, and the loss from minus the advantages' sum."""
    expected, scale = masked_sum(advantages, targets), masked_sum(advantages.abs(), targets)
    return {
        "signs/first_ratio_error": Mean.of((ratio - 1).abs(), targets),
        "signs/first_loss_error": Mean((loss.detach() + expected).abs().item(), scale.item()),
    }


def of_ties(better: Tensor, worse: Tensor) -> dict[str, Metric]:
    """The share of pairs whose two answers get the very same number."""
    return {"signs/ties": Mean.of((better == worse).float())}


def of_kept(kept: Tensor, scores: Tensor, allowed: Tensor, found: Tensor) -> dict[str, Metric]:
    """How far the scores [G] of kept responses, those ``found``, are from the highest of their prompts' ``allowed`` ones.

    Args:
        scores: of all responses [G, N].
    """
    highest = scores.masked_fill(~allowed, -torch.inf).amax(1)
    return {"signs/kept_error": Mean.of((kept - highest).abs(), found)} if found.any() else {}


def of_padding(among_others: Tensor, alone: Tensor, spread: float) -> dict[str, Metric]:
    """How far numbers of sequences that were read alone are from those they got beside longer ones, in deviations."""
    return {"signs/padding_error": Mean((among_others - alone).abs().mean().item() / max(spread, 1e-6), 1)}
