"""Sample responses with noise that belongs to the prompt.

Every response has its own random numbers, drawn from (seed, purpose, round, prompt), one number a position; a token is
found by inverting the cumulative distribution. So neither the order of prompts nor the number that are generated side by
side, nor the rank that does it, can change a response.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlhf.algorithms.masks import positions
from rlhf.config import RolloutConfig
from rlhf.engine.base import Engine
from rlhf.models.forward import takes_positions


class Drawn(NamedTuple):
    """The next token of each of B responses."""

    tokens: Tensor  # [B] int64
    logprobs: Tensor  # [B] float64, nats, of the tempered distribution before top_p
    cut: Tensor  # [B] float64, the probability of all tokens that top_p left out


@dataclass(frozen=True)
class Response:
    """What was sampled, and what the sampler itself says of it: with its number format, and its cache of keys and values."""

    ids: list[int]
    """The end token included where one came."""
    logprobs: list[float]
    """Of each token, in nats, under the tempered distribution before top_p."""
    cut: list[float]
    """Probability that top_p left out at each token."""


def noise(keys: Sequence[str], length: int) -> Tensor:
    """Uniform numbers [B, length] in [0, 1), row by row a pure function of the row's key."""
    rows = []
    for key in keys:
        digest = hashlib.sha256(key.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        rows.append(torch.rand(length, generator=generator))
    return torch.stack(rows)


def noise_keys(purpose: str, prompts: Iterable[str]) -> list[str]:
    """A key for each of ``prompts``; one that comes again gets noise, and so a response, of its own."""
    seen: Counter[str] = Counter()
    keys = []
    for prompt in prompts:
        keys.append(f"{purpose}/{prompt}/{seen[prompt]}")
        seen[prompt] += 1
    return keys


def left_pad(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [B, P] with the padding in front, and their mask."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows], device=device)
    return ids, mask


def sample(
    engine: Engine,
    policy: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    rollout: RolloutConfig,
    eos: int,
    pad: int,
) -> list[list[int]]:
    """Response token ids for each prompt, the end token included where one came; arguments as ``respond``."""
    return [response.ids for response in respond(engine, policy, prompts, keys, rollout, eos, pad)]


def respond(
    engine: Engine,
    policy: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    rollout: RolloutConfig,
    eos: int,
    pad: int,
) -> list[Response]:
    """A response to each prompt.

    Args:
        prompts: token ids, at least one each.
        keys: what the noise of each response is drawn from.
    """
    size = rollout.micro_batch_size
    groups = [slice(first, first + size) for first in range(0, len(prompts), size)]
    was_training = policy.training
    with engine.whole(policy) as model:
        model.eval()
        uniform = noise(keys, rollout.max_new_tokens).to(engine.device)
        parts = engine.spread(groups, lambda rows: _sample_batch(model, prompts[rows], uniform[rows], rollout, eos, pad))
        model.train(was_training)
    return [response for part in parts for response in part]


def _sample_batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], uniform_BR: Tensor, rollout: RolloutConfig, eos: int, pad: int
) -> list[Response]:
    steps = zip(*stream(model, prompts, uniform_BR, rollout, eos, pad), strict=True)
    rows = zip(*(torch.stack(each, 1).tolist() for each in steps), strict=True)
    ended = [(ids.index(eos) + 1 if eos in ids else len(ids), ids, logprobs, cut) for ids, logprobs, cut in rows]
    return [Response(ids[:end], logprobs[:end], cut[:end]) for end, ids, logprobs, cut in ended]


def stream(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniform_BR: Tensor,
    rollout: RolloutConfig,
    eos: int,
    pad: int,
    bend: Callable[[Tensor], Tensor] = lambda logits_BV: logits_BV,
) -> Iterator[Drawn]:
    """The next token of every response, as it is sampled; ``pad`` behind an end token, nothing when all have ended.

    Args:
        bend: changes the logits [B, V] before a token is picked.
    """
    ids, mask = left_pad(prompts, pad, uniform_BR.device)
    position = positions(mask)
    cache = DynamicCache(config=model.config)
    alive = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    for step in range(rollout.max_new_tokens):
        extra = {"position_ids": position} if takes_positions(model.base_model) else {}
        output = model.base_model(input_ids=ids, attention_mask=mask.long(), past_key_values=cache, use_cache=True, **extra)
        logits = bend(model.get_output_embeddings()(output.last_hidden_state[:, -1]))
        drawn = draw(logits, uniform_BR[:, step], rollout.temperature, rollout.top_p)
        chosen = torch.where(alive, drawn.tokens, pad)
        yield drawn._replace(tokens=chosen)
        mask = torch.cat([mask, alive[:, None]], 1)
        alive = alive & (chosen != eos)
        if not alive.any():
            return
        ids, position = chosen[:, None], position[:, -1:] + 1


def repeating(response: Sequence[int], size: int) -> list[int]:
    """The tokens that would make ``response`` end in ``size`` tokens it has had in that order before; 0: none."""
    if size <= 0 or len(response) < size:
        return []
    end = list(response[len(response) - size + 1 :])
    starts = range(len(response) - size + 1)
    return sorted({response[at + size - 1] for at in starts if list(response[at : at + size - 1]) == end})


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Drawn:
    """One token a row: the likeliest at temperature 0, else by inverse transform from the tempered, truncated distribution.

    At temperature 0 log-probabilities are those of temperature 1, as in ``token_logprobs``.
    """
    probabilities = (logits_BV.double() / (temperature or 1.0)).softmax(-1)
    kept = probabilities
    if temperature == 0:
        tokens = logits_BV.argmax(-1)
    else:
        if top_p < 1:
            ordered, order = probabilities.sort(dim=-1, descending=True)
            before = ordered.cumsum(-1) - ordered
            kept = torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0.0))
        tokens = _inverse(kept, uniform_B)
    logprobs = probabilities.gather(-1, tokens[:, None]).squeeze(-1).log()
    return Drawn(tokens, logprobs, (1 - kept.sum(-1)).clamp(min=0.0))


def _inverse(weights_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token at which each row's cumulative weight passes its part of the whole; one of weight 0 never."""
    cumulative = weights_BV.cumsum(-1)
    threshold = uniform_B.double()[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    last_possible = weights_BV.shape[-1] - 1 - (weights_BV > 0).flip(-1).int().argmax(-1)
    return torch.minimum(found, last_possible)
