"""What the stages have in common whose policy learns from responses that it samples: prompts, scores, passes, an exam."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from rlhf.algorithms.ensemble import disagreement, pessimistic
from rlhf.config import OnlineConfig, RewardKind, RewardNormalization
from rlhf.data.records import Example
from rlhf.lineage import stage_of
from rlhf.metrics import Mean, Metric
from rlhf.models.load import load_scorer
from rlhf.models.template import prompt_tokens, response_text
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.ensemble import Ensemble
from rlhf.rewards.interface import Reward
from rlhf.rewards.model import reads_policy
from rlhf.rewards.scale import Scale
from rlhf.rewards.text import text_reward
from rlhf.rollout.sample import Response, noise_keys, respond
from rlhf.stages import signs
from rlhf.stages.answers import answer
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.exam import Exam
from rlhf.stages.examples import epoch_batches
from rlhf.stages.interface import Setting
from rlhf.stages.policies import Policies
from rlhf.stages.shown import examples_shown

PART = "ppo"
"""The part of the data that holds prompts to answer (``config.PARTS``)."""

Prompt = tuple[Example, list[int]]
"""An example and the token ids of its prompt."""


class Online:
    """A policy that answers prompts, and the reward that scores its responses."""

    def __init__(self, setting: Setting, config: OnlineConfig, name: str, policies: Policies, reward: Reward) -> None:
        """Read the prompts. ``begin`` must follow once the networks are placed.

        Args:
            name: of the stage.
        """
        self._setting, self._run, self._config, self._name = setting, setting.run, config, name
        self._policies, self._reward = policies, reward
        self._prompts: list[Prompt] = [
            (example, prompt_tokens(policies.tokenizer, example.turns, self._run.rollout.max_prompt_tokens))
            for example in (setting.corpus.examples(PART, "train") if setting.captured is None else [])
        ]
        self.start_scores: Tensor | None = None
        """As `raw_scores`, of the policy it started from; None where scores are not normalised."""
        self.scale = Scale()
        """On which scores are told and learnt from: of ``start_scores``."""
        self.exam: Exam
        self.notes: list[str] = []

    def begin(self) -> None:
        """Work out the scale of the scores, and set the exam; a captured update knows the scores of its start, and has no exam.

        Raises:
            Fault: all responses score alike.
        """
        captured = self._setting.captured
        self.start_scores = self._score_start() if captured is None else captured.start_scores
        if self.start_scores is not None:
            self.scale = Scale.of(pessimistic(self.start_scores, self._run.reward), self._name)
        if captured is not None:
            return
        self.notes.append(f"scores are (raw - {self.scale.mean:.3f}) / {self.scale.deviation:.3f}")
        marked = [[(ids, [(len(ids), len(ids))])] for _, ids in self._prompts]
        corpus = self._setting.corpus
        self.notes += examples_shown(self._policies.tokenizer, corpus, PART, self._run.seed, marked)
        held_out = corpus.examples(PART, "held_out")
        self.exam = Exam(self._setting, self._policies, self._reward, self.scale, held_out, self._run.rollout)

    def prompts(self, count: int, first_round: int) -> Iterator[list[Prompt]]:
        """``count`` prompts for each round from ``first_round`` on."""
        return epoch_batches(self._setting.corpus, PART, self._run.seed, self._prompts, count, first_round)

    def other_prompts(self, count: int, round_: int, attempt: int) -> list[Prompt]:
        """``count`` prompts drawn at random from all, a function of round and attempt."""
        drawing = torch.Generator().manual_seed((self._run.seed * 1_000_003 + round_) * 101 + attempt)
        return [self._prompts[index] for index in torch.randint(len(self._prompts), (count,), generator=drawing).tolist()]

    def sample(self, prompts: Sequence[Prompt], purpose: str, from_start: bool = False) -> tuple[list[Tokens], list[Response]]:
        """One response to each of ``prompts``, with it and as the sampler told it; the same prompt again gets another one.

        Args:
            purpose: decides the noise.
            from_start: ask the policy it started from.
        """
        tokenizer, ids = self._policies.tokenizer, [ids for _, ids in prompts]
        keys = noise_keys(f"{self._run.seed}/{purpose}", [example.key for example, _ in prompts])
        engine, policies = self._setting.engine, self._policies
        with engine.phase("rollout"), policies.reference() if from_start else nullcontext(policies.policy) as policy:
            told = respond(engine, policy, ids, keys, self._run.rollout, tokenizer.eos_token_id, tokenizer.pad_token_id)
        return [(prompt, response.ids) for prompt, response in zip(ids, told, strict=True)], told

    def raw_scores(self, examples: Sequence[Example], rows: list[Tokens]) -> Tensor:
        """What the reward says of each response [B], or each of several reward models [B, K]."""
        texts = [response_text(self._policies.tokenizer, response) for _, response in rows]
        return self._reward.score(examples, texts, rows)

    def scores(self, raw: Tensor, rows: list[Tokens]) -> tuple[Tensor, Tensor, dict[str, Metric]]:
        """The score [B] each response is learnt from, whether [B] it ended by itself, and what the clip cut."""
        tokenizer, config = self._policies.tokenizer, self._config
        scores = self.scale(pessimistic(raw, self._run.reward))
        told = signs.of_clip(scores, config.reward_clip)
        if raw.dim() > 1:
            told["objective/disagreement"] = Mean.of(disagreement(raw) / self.scale.deviation)
        if config.reward_clip is not None:
            scores = scores.clamp(-config.reward_clip, config.reward_clip)
        ends = [response[-1] == tokenizer.eos_token_id for _, response in rows]
        ended = torch.tensor(ends, device=self._setting.engine.device)
        return scores - config.missing_eos_penalty * (~ended).float(), ended, told

    def told(self, padded: Sequences, scores: Tensor, ended: Tensor, size: int) -> dict[str, Metric]:
        """What is known of sampled responses, ``size`` to a prompt, without asking a network again.

        Args:
            scores: that are learnt from [B].
            ended: whether each ended by itself [B].
        """
        groups = scores.view(-1, size)
        return {
            "objective/scores": Mean.of(scores),
            "group/deviation": Mean.of(groups.std(1)),
            "group/even": Mean.of((groups.amax(1) == groups.amin(1)).float()),
            "response/length_mean": Mean.of(padded.targets.sum(1).float()),
            "response/eos_rate": Mean.of(ended.float()),
            **signs.of_ends(padded.ids, padded.targets, ended, self._policies.tokenizer.eos_token_id),
            **signs.of_lengths(scores, padded.targets),
        }

    def passes(self, update: int) -> Iterator[tuple[Tensor, ...]]:
        """For each inner epoch of ``update`` the responses of its minibatches, shuffled anew."""
        config = self._config
        shuffling = torch.Generator().manual_seed(self._run.seed * 1_000_003 + update)
        for _ in range(config.inner_epochs):
            order = torch.randperm(config.batch_size, generator=shuffling).to(self._setting.engine.device)
            yield order.split(config.batch_size // config.minibatches)

    def _score_start(self) -> Tensor | None:
        """Raw scores of the SFT policy's responses to some training prompts, which also put several scorers on one scale."""
        if self._config.reward_normalization is RewardNormalization.none:
            return None
        examples = [example for example, _ in next(self.prompts(self._config.normalization_prompts, 0))]
        with self._policies.reference() as start:
            answers = answer(self._setting, start, self._policies.tokenizer, examples, self._run.rollout, "normalisation")
        responses = (answers.examples, answers.texts, answers.tokens)
        if isinstance(self._reward, Ensemble):
            self._reward = self._reward.scaled(*responses, self._name)
        return self._reward.score(*responses)


def load_reward(setting: Setting, config: OnlineConfig, policies: Policies) -> Reward:
    """The reward of the run: its reward models, frozen, or what scores texts, or what was said of a captured update."""
    run, engine, size = setting.run, setting.engine, config.micro_batch_size
    if setting.captured is not None:
        return setting.captured
    if run.reward.kind is not RewardKind.model:
        return text_reward(run.reward, engine, size)
    members = []
    for place in (place for name, place in setting.parents.items() if stage_of(name) == "rm"):
        reader = load_tokenizer(run.reward_model, (), place)
        scorer = load_scorer(run.reward_model, reader, place, run.seed, fresh_head=False)
        engine.freeze(scorer, config.reward_device)
        members.append(reads_policy(scorer, reader, policies.tokenizer, run.rollout.max_prompt_tokens, engine, size))
    if len(members) == 1:
        return members[0]
    return Ensemble(members)
