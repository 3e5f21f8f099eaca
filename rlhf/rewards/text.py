"""Rewards that read text: built-in functions, a person's own file, a server. They see prompts and responses, no tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.config import RewardConfig, RewardKind
from rlhf.data.records import Example
from rlhf.engine.base import Engine
from rlhf.fault import Fault
from rlhf.rewards import functions
from rlhf.rewards.own import load_function
from rlhf.rewards.server import Server
from rlhf.stages.batches import Tokens
from rlhf.stages.examples import in_groups

Messages = list[dict[str, str]]
"""The turns of a prompt, each with `role` and `content`."""

Scorer = Callable[[list[Messages], list[str], list[str | None]], Sequence[float]]
"""From prompts, responses and known solutions (None where there is none) to one number a response."""


@dataclass(frozen=True)
class TextReward:
    """Asks a scorer about ``size`` responses at a time; each response is scored by one rank, and all ranks hear of it."""

    name: str
    """The setting it comes from, for messages."""
    scorer: Scorer
    engine: Engine
    size: int

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """See ``Reward``.

        Raises:
            Fault: the scorer did not give one finite number for each response.
        """
        pairs = list(zip(examples, texts, strict=True))
        parts = self.engine.spread(list(in_groups(pairs, self.size)), self._scores, networks=False)
        return torch.tensor([value for part in parts for value in part], dtype=torch.float32, device=self.engine.device)

    def _scores(self, pairs: Sequence[tuple[Example, str]]) -> list[float]:
        prompts = [messages_of(example) for example, _ in pairs]
        return ask(self.name, self.scorer, prompts, [text for _, text in pairs], [example.solution for example, _ in pairs])


def messages_of(prompt: Example) -> Messages:
    """Its turns as a scorer is given them."""
    return [{"role": turn.role, "content": turn.text} for turn in prompt.turns]


def ask(name: str, scorer: Scorer, prompts: list[Messages], responses: list[str], solutions: list[str | None]) -> list[float]:
    """The scorer's numbers, seen to be as many as there are responses.

    Raises:
        Fault: they are not, or not finite; ``name`` is the setting that the scorer comes from.
    """
    given = scorer(prompts, responses, solutions)
    try:
        values = [float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise Fault(f"{name}: gave {_shown(given)}; it must give a list of numbers, one for each response") from error
    if len(values) != len(responses):
        raise Fault(f"{name}: gave {len(values)} scores for {len(responses)} responses; it must give one for each")
    if not all(map(math.isfinite, values)):
        raise Fault(f"{name}: gave {_shown(values)}; every score must be a finite number")
    return values


def scorer_of(config: RewardConfig) -> tuple[str, Scorer]:
    """What scores under ``config``, of any kind but `model`, with the setting it comes from.

    Raises:
        Fault: the person's function cannot be loaded, or an extra is not installed.
    """
    match config.kind:
        case RewardKind.function:
            assert config.function is not None  # `checks` has seen to it
            return f"reward.function={config.function.name}", functions.make(config)
        case RewardKind.file:
            assert config.path is not None
            return f"reward.path={config.path}", load_function(config.path)
        case RewardKind.http:
            assert config.url is not None
            return f"reward.url={config.url}", Server(config.url, config.timeout).score
        case RewardKind.model:
            raise AssertionError("a reward model reads tokens")


def text_reward(config: RewardConfig, engine: Engine, size: int) -> TextReward:
    """The reward that ``config`` describes, of any kind but `model`; raises as ``scorer_of``."""
    name, scorer = scorer_of(config)
    return TextReward(name, scorer, engine, size)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
