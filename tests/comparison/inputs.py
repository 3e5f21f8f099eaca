"""What is put before both sides: the same tokens, networks and tensors, drawn by a generator that no library changes."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

PAD, EOS, VOCABULARY = 0, 2, 64
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
}
LENGTHS = ((3, 4, 6), (5, 1, 3), (2, 7, 2), (1, 3, 3), (6, 2, 5))
"""Tokens of a prompt, of its better and of its worse answer, the end token included."""

Pair = tuple[list[int], list[int], list[int]]
"""A prompt, its better and its worse answer."""


def numbers(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Numbers between ``-scale`` and ``scale`` that depend on ``name`` alone; fp32."""
    drawn = random.Random(name)
    flat = [drawn.uniform(-scale, scale) for _ in range(int(torch.tensor(shape).prod()))]
    return torch.tensor(flat, dtype=torch.float64).view(*shape).float()


def pairs() -> list[Pair]:
    """Prompts with two answers, of several lengths."""
    drawn = random.Random("pairs")

    def tokens(count: int) -> list[int]:
        return [drawn.randrange(3, VOCABULARY) for _ in range(count)]

    return [(tokens(prompt), [*tokens(better - 1), EOS], [*tokens(worse - 1), EOS]) for prompt, better, worse in LENGTHS]


def labelled_answers() -> list[tuple[list[int], list[int], bool]]:
    """The answers of the pairs one by one, those to one prompt apart: all good ones, then all bad ones."""
    better = [(prompt, answer, True) for prompt, answer, _ in pairs()]
    return better + [(prompt, answer, False) for prompt, _, answer in pairs()][:4]


MARGINS = [0.5, 0.0, 1.5, 0.25, 2.0]
"""By how much each better answer was found better."""


def filled(network: nn.Module, name: str) -> nn.Module:
    """``network`` with weights that depend on ``name`` and on their own names alone."""
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            drawn = numbers(f"{name}/{key}", *parameter.shape, scale=0.5)
            parameter.copy_(1 + 0.2 * drawn if parameter.dim() == 1 else drawn)
    return network.eval()


def policy(name: str = "policy") -> LlamaForCausalLM:
    """A policy; another ``name`` gives other weights, as a reference has."""
    return filled(LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)), name)


def scorer() -> LlamaForSequenceClassification:
    """A reward model."""
    return filled(LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=1)), "scorer")


class Rollout:
    """Responses of several lengths to prompts without padding, and all that networks say of them: B rows, R columns."""

    prompt, actions = 3, 9
    """Tokens of a prompt, and how many different ones there are."""
    lengths = (7, 1, 4, 7, 2, 6, 3, 5)
    """Of the responses; the fourth, of full length, was cut off, the others end with the end token."""
    temperature = 0.7

    def __init__(self) -> None:
        rows, columns = len(self.lengths), max(self.lengths)
        drawn = random.Random("responses")
        self.prompts = [[drawn.randrange(3, self.actions) for _ in range(self.prompt)] for _ in self.lengths]
        self.responses = [[drawn.randrange(3, self.actions) for _ in range(length - 1)] + [EOS] for length in self.lengths]
        self.responses[3][-1] = 5
        self.mask = torch.arange(columns)[None] < torch.tensor(self.lengths)[:, None]
        self.ids = torch.tensor([row + [PAD] * (columns - len(row)) for row in self.responses])
        # logits as the networks give them, before the temperature: of the policy that sampled, of it now, of the reference
        self.old_logits, self.logits, self.reference_logits = (
            numbers(name, rows, columns, self.actions, scale=1.5) for name in ("old", "now", "reference")
        )
        self.logits = self.old_logits + 0.3 * self.logits
        self.old_values = numbers("old values", rows, columns)
        self.values = self.old_values + 0.5 * numbers("values", rows, columns)
        self.scores = numbers("scores", rows, scale=2.0)

    def logprobs(self, logits: Tensor) -> Tensor:
        """Of the tokens that were taken [B, R], under the temperature."""
        return (logits / self.temperature).log_softmax(-1).gather(-1, self.ids[..., None]).squeeze(-1)


PPO_SETTINGS: dict[str, dict[str, object]] = {
    "k1": {},
    "k3": {"kl_estimator": "k3"},
    "whitened rewards": {"whiten_rewards": True},
    "lambda and gamma": {"gamma": 0.9, "lam": 0.8, "missing_eos_penalty": 1.0},
}
"""Settings of TRL's PPO, beside its defaults, under which both sides are compared."""


def rounded(value: object) -> object:
    """Tensors and floats as plain numbers of nine digits, for the record."""
    if isinstance(value, Tensor):
        return rounded(value.detach().double().tolist())
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
