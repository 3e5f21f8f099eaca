"""Historic bugs of RLHF code: where each was, how it is put back into ours, and what ``doctor`` calls it.

Numbers are those of issues and pull requests: DSE DeepSpeedExamples, DS DeepSpeed, others by the name of their project.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doctor.breaks import best_of_n, dpo, kto, ppo, rm, sampling, sft

FAST = ("ppo.learning_rate=3e-3",)
"""So fast that a policy moves by what can be measured within a few updates."""


def nothing(patch: pytest.MonkeyPatch) -> None:
    """For bugs that are settings."""


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    name: str
    issues: str
    stage: str
    finding: str
    """That names it."""
    how: str
    """How it is put back."""
    put_back: Callable[[pytest.MonkeyPatch], None] = nothing
    settings: tuple[str, ...] = ()
    """Of the run; without ``put_back`` they are the bug."""
    needs: tuple[str, ...] = ()
    """Settings of the run that are no part of a bug that is settings."""
    own_parents: bool = False
    """Another architecture, whose parents are trained for two steps."""


MUTANTS = (
    Mutant("padding-in-sft-loss", "DSE 793, 819", "sft", "padding-learnt", "padding is a target", sft.padding_in_loss),
    Mutant("prompt-in-sft-loss", "DSE 301, 660", "sft", "prompt-learnt", "prompts are targets", sft.prompt_in_loss),
    Mutant("pad-is-eos", "TRL 1623, 3091", "sft", "end-not-learnt", "pad = eos, targets without pad ids", sft.pad_is_eos),
    Mutant("end-doubled", "TRL 4908, 1591", "sft", "end-not-learnt", "a second end token", sft.end_doubled),
    Mutant("begin-doubled", "TRL 2054, 4481", "sft", "begin-token-doubled", "a second begin token", sft.begin_doubled),
    Mutant(
        *("mean-of-means", "TRL 2175, 3021, 7249; open-instruct 1137", "sft", "accumulation-changes-the-loss"),
        *("each micro-batch divides by its own tokens", sft.mean_of_means),
    ),
    Mutant(
        *("schedule-too-fast", "transformers 24088", "sft", "learning-rate-off"),
        *("the schedule counts four ranks' steps", sft.schedule_too_fast),
        ("sft.max_steps=20", "sft.schedule=linear"),
    ),
    Mutant(
        *("split-leaks", "DeepSpeed-Chat, step 3 without a seed", "sft", "split-leak"),
        *("held-out prompts are drawn as those of training are", sft.split_leaks),
    ),
    Mutant(
        *("loss-divided-twice", "trlX 220", "rm", "accumulation-changes-the-loss"),
        *("the loss is divided by the batch size once more", rm.loss_divided_twice),
    ),
    Mutant(
        *("score-read-on-padding", "TRL 937; DSE 571", "rm", "padding-changes-numbers"),
        *("the score is read in the last column", rm.score_on_padding),
    ),
    Mutant(
        *("identical-pairs", "DeepSpeed-Chat, truncation from the right", "rm", "identical-pairs"),
        *("answers are cut to four tokens, equal ones stay", rm.pairs_cut),
    ),
    Mutant(
        *("prefers-the-bad-answer", "DSE 737", "rm", "prefers-the-worse"),
        *("chosen and rejected change places in the loss", rm.pairs_swapped),
        ("evaluation.examples=600", "rm.max_steps=60", "rm.epochs=4", "rm.learning_rate=2e-3"),
    ),
    Mutant(
        *("length-is-liked", "CoursIA 16063", "rm", "length-biased"),
        *("in training the longer answer is the chosen one", rm.longer_is_chosen),
        ("rm.max_steps=60", "rm.epochs=4", "rm.learning_rate=2e-3"),
    ),
    Mutant(
        *("reward-bias-dropped", "TRL 1783", "ppo", "scores-off-scale"),
        *("scores are normalised with a bias that they lose later", ppo.reward_bias_dropped),
    ),
    Mutant(
        *("temperature-forgotten", "lm-human-preferences, detail 10", "ppo", "sampler-and-training-differ"),
        *("log-probabilities at temperature 1, samples at 0.7", sampling.temperature_forgotten),
        ("rollout.temperature=0.7",),
    ),
    Mutant(
        *("nucleus-sampling", "TRL 6789, 7269", "ppo", "sampled-from-another-distribution"),
        *("`rollout.top_p=0.9`", nothing),
        ("rollout.top_p=0.9",),
    ),
    Mutant(
        *("greedy-rollouts", "DeepSpeed-Chat, rollouts without sampling", "ppo", "sampled-greedily"),
        *("`rollout.temperature=0`", nothing),
        ("rollout.temperature=0",),
    ),
    Mutant(
        *("end-forbidden", "TRL 235, 1002; DeepSpeed-Chat, min_length", "ppo", "sampler-and-training-differ"),
        *("the sampler forbids the end token", sampling.end_forbidden),
    ),
    Mutant(
        *("positions-ignore-padding", "lm-human-preferences, detail 3", "ppo", "ratio-not-one"),
        *("positions in training count padding (learned positions)", sampling.positions_ignore_padding),
        ("model.arch.family=opt", "reward_model.arch.family=opt"),
        own_parents=True,
    ),
    Mutant(
        *("sampler-broken", "DSE 864, 821, 794", "ppo", "sampler-and-training-differ"),
        *("the sampler's weights carry noise", sampling.sampler_broken),
    ),
    Mutant(
        *("sampler-stale", "DS 3870, DSE 489", "ppo", "sampler-and-training-differ"),
        *("the sampler keeps the first weights", sampling.sampler_stale),
        FAST,
    ),
    Mutant(
        *("sampler-in-low-precision", "verl 2996; TRL 3867; NeMo-RL 69", "ppo", "sampler-and-training-differ"),
        *("the sampler's weights are rounded to bfloat16", sampling.sampler_rounded),
    ),
    Mutant(
        *("one-noise-for-all", "verl 5179", "ppo", "sampler-and-training-differ"),
        *("all prompts share their noise", sampling.noise_shared),
    ),
    Mutant(
        *("dropout-while-scoring", "DeepSpeed-Chat; lm-human-preferences, detail 13", "ppo", "ratio-not-one"),
        *("the policy stays in training mode, dropout 0.1", sampling.dropout_on),
        ("model.dropout=0.1",),
    ),
    Mutant(
        *("score-on-padding", "TRL 3750", "ppo", "score-misplaced"),
        *("the score stands behind the last token", ppo.score_behind_end),
    ),
    Mutant(
        *("end-not-rewarded", "DSE 672", "ppo", "end-not-learnt"),
        *("the last token is no action", ppo.last_action_dropped),
    ),
    Mutant(
        *("entropy-of-sentinels", "TRL 2022, 2281, 6121", "ppo", "negative-entropy"),
        *("each padding column adds its log-probability of 1", ppo.entropy_of_sentinels),
    ),
    Mutant(
        *("entropy-diluted", "TRL 2496, 6803", "ppo", "entropy-of-padding"),
        *("padding counts in the mean of token entropies", ppo.entropy_diluted),
    ),
    Mutant(
        *("returns-beyond-the-end", "rlhf-book 216", "ppo", "return-beyond-the-end"),
        *("values of padding enter the advantages", ppo.values_of_padding),
    ),
    Mutant(
        *("whitening-counts-padding", "lm-human-preferences, detail 18", "ppo", "whitening-wrong"),
        *("padding counts in mean and variance", ppo.whitening_counts_padding),
    ),
    Mutant(
        *("reference-is-the-base", "TRL 495", "ppo", "kl-not-zero-at-start"),
        *("the reference is the model before SFT", ppo.reference_is_base),
    ),
    Mutant(
        *("adaptive-kl-ignored", "TRL 18", "ppo", "setting-without-effect"),
        *("`ppo.kl_target=1`, and the coefficient stays", ppo.adaptive_kl_ignored),
        ("ppo.kl_target=1",),
    ),
    Mutant(
        *("other-kl-paid", "TRL 1180, 1161", "ppo", "reward-not-received"),
        *("|KL| is paid for, and KL is told", ppo.other_kl_paid),
        (*FAST, "ppo.kl_coef=1"),
    ),
    Mutant(
        *("kl-negative", "TRL 256, 925", "ppo", "negative-kl"),
        *("log π_ref − log π, so that distance pays", ppo.kl_reversed),
        (*FAST, "ppo.kl_coef=1"),
    ),
    Mutant(
        *("value-head-wild", "OpenRLHF 186, 348, 643; trlX 203", "ppo", "critic-starts-biased"),
        *("the critic's head begins 30 times too large", ppo.value_head_wild),
    ),
    Mutant(
        *("critic-diverges", "DSE 556", "ppo", "critic-diverges"),
        *("`ppo.critic_learning_rate=0.3`", nothing),
        ("ppo.critic_learning_rate=0.3",),
    ),
    Mutant(
        *("response-means", "TRL 3138; verl 2435", "ppo", "loss-not-the-advantage"),
        *("the policy loss is a mean of responses' means", ppo.response_means),
    ),
    Mutant(
        *("reward-frozen", "DSE 586", "ppo", "scores-at-the-clip"),
        *("`ppo.reward_clip=0.2`", nothing),
        ("ppo.reward_clip=0.2",),
    ),
    Mutant(
        *("actor-collapses", "DSE 442, 297; TRL 204", "ppo", "steps-too-large"),
        *("`ppo.learning_rate=0.03 ppo.kl_coef=0`", nothing),
        ("ppo.learning_rate=0.03", "ppo.kl_coef=0"),
    ),
    Mutant(
        *("policy-not-trained", "DS 3339", "ppo", "policy-equals-reference"),
        *("the policy's loss is cut off from its weights", ppo.policy_detached),
    ),
    Mutant(
        *("reward-hacked", "DSE 491", "ppo", "over-optimised"),
        *("a reward that pays for the word `thank`", nothing),
        settings=("reward=file", f"reward.path={Path(__file__).with_name('thanks.py')}:score"),
        needs=("ppo.updates=10", "ppo.learning_rate=1e-3", "ppo.kl_coef=0"),
    ),
    Mutant(
        *("reference-shared", "TRL 1311; POVID 11", "dpo", "policy-equals-reference"),
        *("the reference is the policy itself", dpo.reference_shared),
    ),
    Mutant(
        *("ranking-reversed", "LLaMa2lang 52", "kto", "prefers-the-worse"),
        *("the worst answer of a row is called good", kto.ranking_reversed),
        ("evaluation.examples=600", "kto.max_steps=60", "kto.epochs=4", "kto.batch_size=32", "kto.learning_rate=2e-3"),
    ),
    Mutant(
        *("weights-ignored", "ms-swift 2167", "kto", "setting-without-effect"),
        *("`kto.undesirable_weight=0.8`, and both kinds weigh 1", kto.weights_ignored),
        ("kto.undesirable_weight=0.8",),
    ),
    Mutant(
        *("kl-of-own-answers", "TRL 1911; LlamaFactory 7509", "kto", "reference-point-of-own-answers"),
        *("each prompt meets its own answer, as in a batch of one", kto.own_answers),
        ("kto.max_steps=12", "kto.batch_size=32", "kto.learning_rate=3e-4", "kto.undesirable_weight=0.3"),
    ),
    Mutant(
        *("best-of-all-prompts", "LMFlow 460", "best_of_n", "kept-not-the-best"),
        *("the best of all responses are kept, whatever their prompts", best_of_n.best_of_all),
    ),
)
