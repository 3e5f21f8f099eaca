"""One side of a conversation: a policy that answers token by token, and a reward model that scores what it said."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf import artifact
from rlhf.chat.find import name_of
from rlhf.config import ChatConfig, Device, Precision, RolloutConfig
from rlhf.data.records import Turn
from rlhf.engine.torch_engine import TorchEngine
from rlhf.models.brought import brought
from rlhf.models.load import load_policy, load_scorer
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.model import sequence_scores
from rlhf.rollout.sample import noise, repeating, stream
from rlhf.stages.batches import Sequences

UNKNOWN = "\ufffd"
"""What a decoder gives for bytes that are no whole character yet."""
LONGEST_CHARACTER = 4
"""Bytes of UTF-8, and so tokens of a byte-level tokenizer; what is not whole after them never will be."""


class Speaker:
    """A policy with the tokenizer and template of its artifact."""

    def __init__(self, path: Path) -> None:
        """Load and verify the artifact at ``path``.

        Raises:
            Fault: it is broken, or no policy.
        """
        artifact.load(path, "policy", "chat")
        self.name = name_of(path)
        described = brought(self.name)
        self._tokenizer = load_tokenizer(described, (), path)
        self._policy = load_policy(described, self._tokenizer, path, seed=0)
        self._engine = TorchEngine(Device.auto, Precision.fp32, deterministic=False)
        self._engine.freeze(self._policy)

    def reply(self, turns: tuple[Turn, ...], settings: ChatConfig, key: str) -> Iterator[str]:
        """The answer to ``turns``, in pieces of whole characters, as they are sampled; the oldest tokens go where it is long.

        ``key`` decides the noise.
        """
        longest = int(getattr(self._policy.config, "max_position_embeddings", 0) or settings.max_new_tokens * 8)
        new = min(settings.max_new_tokens, longest // 2)
        rollout = RolloutConfig(longest - new, new, settings.temperature, settings.top_p, micro_batch_size=1)
        prompt = prompt_tokens(self._tokenizer, turns, rollout.max_prompt_tokens)
        yield from whole_characters(self._tokenizer, self._sampled(prompt, rollout, settings.no_repeat_ngram_size, key))

    @torch.no_grad()  # entered anew for each token, so that two replies that alternate leave nothing switched off
    def _sampled(self, prompt: list[int], rollout: RolloutConfig, no_repeat: int, key: str) -> Iterator[int]:
        ids: list[int] = []

        def bend(logits_BV: Tensor) -> Tensor:
            if banned := repeating(ids, no_repeat):
                logits_BV[:, banned] = -torch.inf
            return logits_BV

        uniform = noise([key], rollout.max_new_tokens).to(self._engine.device)
        eos, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        for drawn in stream(self._policy, [prompt], uniform, rollout, eos, pad, bend):
            ids.append(int(drawn.tokens))
            yield ids[-1]


class Judge:
    """A reward model."""

    def __init__(self, path: Path) -> None:
        """Load and verify the artifact at ``path``.

        Raises:
            Fault: it is broken, or no reward model.
        """
        artifact.load(path, "reward_model", "reward")
        self.name = name_of(path)
        described = brought(self.name)
        self._tokenizer = load_tokenizer(described, (), path)
        self._scorer = load_scorer(described, self._tokenizer, path, seed=0, fresh_head=False)
        self._engine = TorchEngine(Device.auto, Precision.fp32, deterministic=False)
        self._engine.freeze(self._scorer)

    @torch.no_grad()
    def score(self, turns: tuple[Turn, ...], answer: str) -> float:
        """The raw score of ``answer`` as a finished response to ``turns``."""
        (response,) = response_tokens(self._tokenizer, [answer])
        longest = int(getattr(self._scorer.config, "max_position_embeddings", 0) or len(response) * 8)
        prompt = prompt_tokens(self._tokenizer, turns, max(1, longest - len(response)))
        batch = Sequences.of([(prompt, response[: longest - 1])], self._tokenizer.pad_token_id, self._engine.device)
        return self._engine.forward(sequence_scores, self._scorer, batch).item()


def whole_characters(tokenizer: PreTrainedTokenizerBase, tokens: Iterator[int]) -> Iterator[str]:
    """The text of ``tokens`` in pieces; bytes that may still become a character wait for the rest of it."""
    ids: list[int] = []
    shown, waiting = 0, 0
    for token in tokens:
        ids.append(token)
        text = _text(tokenizer, ids)
        waiting = waiting + 1 if text.endswith(UNKNOWN) else 0
        if len(text) > shown and not 0 < waiting < LONGEST_CHARACTER:
            yield text[shown:]
            shown, waiting = len(text), 0
    rest = _text(tokenizer, ids)[shown:]
    if rest:
        yield rest


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """As ``response_text``, but what stands at its end stays, for more may follow."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).lstrip()
