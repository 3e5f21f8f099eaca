"""Historic bugs of RLHF code, put back one at a time into ours, and what ``doctor`` then says of a small run.

``python -m tests.doctor.mutants`` trains the parents, then one run for each bug, and prints the table of docs/doctor.md.
Numbers are those of issues and pull requests: DSE DeepSpeedExamples, DS DeepSpeed, others by the name of their project.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.doctor.examine import examine
from rlhf.doctor.finding import Finding
from rlhf.report.folder import read
from tests.doctor import breaks
from tests.stages.small import make_run

SOURCES = ("documents", "demonstrations", "preferences", "prompts")
SIZE = (
    *("data=demo", *(f"data.sources.{source}.cap=600" for source in SOURCES)),
    *("rollout.max_new_tokens=40", "rollout.micro_batch_size=64"),
    *("evaluation.prompts=64", "evaluation.examples=128", "evaluation.micro_batch_size=64"),
    *("ppo.batch_size=32", "ppo.micro_batch_size=16", "ppo.updates=4", "ppo.inner_epochs=2", "ppo.normalization_prompts=64"),
)
PARENTS = (
    *(
        "sft.max_steps=150",
        "sft.epochs=8",
        "sft.batch_size=32",
        "sft.micro_batch_size=16",
        "sft.learning_rate=5e-3",
        "sft.warmup_steps=10",
    ),
    *("rm.max_steps=60", "rm.epochs=4", "rm.batch_size=32", "rm.micro_batch_size=16", "rm.learning_rate=2e-3"),
)
"""A policy whose answers end, and a reward model that tells some of them apart."""
SHORT = {
    "sft": ("sft.max_steps=8", "sft.log_every=1", "sft.warmup_steps=0"),
    "rm": ("rm.max_steps=8", "rm.log_every=1", "rm.warmup_steps=0"),
    "dpo": ("dpo.max_steps=6", "dpo.log_every=1", "dpo.warmup_steps=0"),
    "ppo": (),
}
FAST = ("ppo.learning_rate=3e-3",)
"""So fast that a policy moves by what can be measured within a few updates."""


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
    put_back: Callable[[pytest.MonkeyPatch], None] = breaks.nothing
    settings: tuple[str, ...] = ()
    own_parents: bool = False
    """Another architecture, whose parents are trained for two steps."""


MUTANTS = (
    Mutant("padding-in-sft-loss", "DSE 793, 819", "sft", "padding-learnt", "padding is a target", breaks.padding_in_loss),
    Mutant("prompt-in-sft-loss", "DSE 301, 660", "sft", "prompt-learnt", "prompts are targets", breaks.prompt_in_loss),
    Mutant("pad-is-eos", "TRL 1623, 3091", "sft", "end-not-learnt", "pad = eos, targets without pad ids", breaks.pad_is_eos),
    Mutant("end-doubled", "TRL 4908, 1591", "sft", "end-not-learnt", "a second end token", breaks.end_doubled),
    Mutant("begin-doubled", "TRL 2054, 4481", "sft", "begin-token-doubled", "a second begin token", breaks.begin_doubled),
    Mutant(
        *("mean-of-means", "TRL 2175, 3021, 7249; open-instruct 1137", "sft", "accumulation-changes-the-loss"),
        *("each micro-batch divides by its own tokens", breaks.mean_of_means),
    ),
    Mutant(
        *("schedule-too-fast", "transformers 24088", "sft", "learning-rate-off"),
        *("the schedule counts four ranks' steps", breaks.schedule_too_fast),
        ("sft.max_steps=20", "sft.schedule=linear"),
    ),
    Mutant(
        *("split-leaks", "DeepSpeed-Chat, step 3 without a seed", "sft", "split-leak"),
        *("held-out prompts are drawn as those of training are", breaks.split_leaks),
    ),
    Mutant(
        *("loss-divided-twice", "trlX 220", "rm", "accumulation-changes-the-loss"),
        *("the loss is divided by the batch size once more", breaks.loss_divided_twice),
    ),
    Mutant(
        *("score-read-on-padding", "TRL 937; DSE 571", "rm", "padding-changes-numbers"),
        *("the score is read in the last column", breaks.score_on_padding),
    ),
    Mutant(
        *("identical-pairs", "DeepSpeed-Chat, truncation from the right", "rm", "identical-pairs"),
        *("answers are cut to four tokens, equal ones stay", breaks.pairs_cut),
    ),
    Mutant(
        *("prefers-the-bad-answer", "DSE 737", "rm", "prefers-the-worse"),
        *("chosen and rejected change places in the loss", breaks.pairs_swapped),
        ("evaluation.examples=600", "rm.max_steps=60", "rm.epochs=4", "rm.learning_rate=2e-3"),
    ),
    Mutant(
        *("length-is-liked", "CoursIA 16063", "rm", "length-biased"),
        *("in training the longer answer is the chosen one", breaks.longer_is_chosen),
        ("rm.max_steps=60", "rm.epochs=4", "rm.learning_rate=2e-3"),
    ),
    Mutant(
        *("reward-bias-dropped", "TRL 1783", "ppo", "scores-off-scale"),
        *("scores are normalised with a bias that they lose later", breaks.reward_bias_dropped),
    ),
    Mutant(
        *("temperature-forgotten", "lm-human-preferences, detail 10", "ppo", "sampler-and-training-differ"),
        *("log-probabilities at temperature 1, samples at 0.7", breaks.temperature_forgotten),
        ("rollout.temperature=0.7",),
    ),
    Mutant(
        *("nucleus-sampling", "TRL 6789, 7269", "ppo", "sampled-from-another-distribution"),
        *("`rollout.top_p=0.9`", breaks.nothing),
        ("rollout.top_p=0.9",),
    ),
    Mutant(
        *("greedy-rollouts", "DeepSpeed-Chat, rollouts without sampling", "ppo", "sampled-greedily"),
        *("`rollout.temperature=0`", breaks.nothing),
        ("rollout.temperature=0",),
    ),
    Mutant(
        *("end-forbidden", "TRL 235, 1002; DeepSpeed-Chat, min_length", "ppo", "sampler-and-training-differ"),
        *("the sampler forbids the end token", breaks.end_forbidden),
    ),
    Mutant(
        *("positions-ignore-padding", "lm-human-preferences, detail 3", "ppo", "ratio-not-one"),
        *("positions in training count padding (learned positions)", breaks.positions_ignore_padding),
        ("model.arch.family=opt", "reward_model.arch.family=opt"),
        own_parents=True,
    ),
    Mutant(
        *("sampler-broken", "DSE 864, 821, 794", "ppo", "sampler-and-training-differ"),
        *("the sampler's weights carry noise", breaks.sampler_broken),
    ),
    Mutant(
        *("sampler-stale", "DS 3870, DSE 489", "ppo", "sampler-and-training-differ"),
        *("the sampler keeps the first weights", breaks.sampler_stale),
        FAST,
    ),
    Mutant(
        *("sampler-in-low-precision", "verl 2996; TRL 3867; NeMo-RL 69", "ppo", "sampler-and-training-differ"),
        *("the sampler's weights are rounded to bfloat16", breaks.sampler_rounded),
    ),
    Mutant(
        *("one-noise-for-all", "verl 5179", "ppo", "sampler-and-training-differ"),
        *("all prompts share their noise", breaks.noise_shared),
    ),
    Mutant(
        *("dropout-while-scoring", "DeepSpeed-Chat; lm-human-preferences, detail 13", "ppo", "ratio-not-one"),
        *("the policy stays in training mode, dropout 0.1", breaks.dropout_on),
        ("model.dropout=0.1",),
    ),
    Mutant(
        *("score-on-padding", "TRL 3750", "ppo", "score-misplaced"),
        *("the score stands behind the last token", breaks.score_behind_end),
    ),
    Mutant(
        *("end-not-rewarded", "DSE 672", "ppo", "end-not-learnt"),
        *("the last token is no action", breaks.last_action_dropped),
    ),
    Mutant(
        *("entropy-of-sentinels", "TRL 2022, 2281, 6121", "ppo", "negative-entropy"),
        *("each padding column adds its log-probability of 1", breaks.entropy_of_sentinels),
    ),
    Mutant(
        *("entropy-diluted", "TRL 2496, 6803", "ppo", "entropy-of-padding"),
        *("padding counts in the mean of token entropies", breaks.entropy_diluted),
    ),
    Mutant(
        *("returns-beyond-the-end", "rlhf-book 216", "ppo", "return-beyond-the-end"),
        *("values of padding enter the advantages", breaks.values_of_padding),
    ),
    Mutant(
        *("whitening-counts-padding", "lm-human-preferences, detail 18", "ppo", "whitening-wrong"),
        *("padding counts in mean and variance", breaks.whitening_counts_padding),
    ),
    Mutant(
        *("reference-is-the-base", "TRL 495", "ppo", "kl-not-zero-at-start"),
        *("the reference is the model before SFT", breaks.reference_is_base),
    ),
    Mutant(
        *("adaptive-kl-ignored", "TRL 18", "ppo", "setting-without-effect"),
        *("`ppo.kl_target=1`, and the coefficient stays", breaks.adaptive_kl_ignored),
        ("ppo.kl_target=1",),
    ),
    Mutant(
        *("other-kl-paid", "TRL 1180, 1161", "ppo", "reward-not-received"),
        *("|KL| is paid for, and KL is told", breaks.other_kl_paid),
        (*FAST, "ppo.kl_coef=1"),
    ),
    Mutant(
        *("kl-negative", "TRL 256, 925", "ppo", "negative-kl"),
        *("log π_ref − log π, so that distance pays", breaks.kl_reversed),
        (*FAST, "ppo.kl_coef=1"),
    ),
    Mutant(
        *("value-head-wild", "OpenRLHF 186, 348, 643; trlX 203", "ppo", "critic-starts-biased"),
        *("the critic's head begins 30 times too large", breaks.value_head_wild),
    ),
    Mutant(
        *("critic-diverges", "DSE 556", "ppo", "critic-misleads"),
        *("`ppo.critic_learning_rate=0.3`", breaks.nothing),
        ("ppo.critic_learning_rate=0.3",),
    ),
    Mutant(
        *("response-means", "TRL 3138; verl 2435", "ppo", "loss-not-the-advantage"),
        *("the policy loss is a mean of responses' means", breaks.response_means),
    ),
    Mutant(
        *("reward-frozen", "DSE 586", "ppo", "scores-at-the-clip"),
        *("`ppo.reward_clip=0.2`", breaks.nothing),
        ("ppo.reward_clip=0.2",),
    ),
    Mutant(
        *("actor-collapses", "DSE 442, 297; TRL 204", "ppo", "steps-too-large"),
        *("`ppo.learning_rate=0.03 ppo.kl_coef=0`", breaks.nothing),
        ("ppo.learning_rate=0.03", "ppo.kl_coef=0"),
    ),
    Mutant(
        *("policy-not-trained", "DS 3339", "ppo", "policy-equals-reference"),
        *("the policy's loss is cut off from its weights", breaks.policy_detached),
    ),
    Mutant(
        *("reward-hacked", "DSE 491", "ppo", "over-optimised"),
        *("a reward that pays for the word `thank`", breaks.nothing),
        ("reward=file", f"reward.path={Path(__file__).with_name('thanks.py')}:score", "ppo.updates=20", *FAST, "ppo.kl_coef=0"),
    ),
    Mutant(
        *("reference-shared", "TRL 1311; POVID 11", "dpo", "policy-equals-reference"),
        *("the reference is the policy itself", breaks.reference_shared),
    ),
)


def parents(outputs: Path) -> tuple[str, ...]:
    """Train what the mutants start from; the overrides that name it."""
    result = chain.execute(make_run(outputs, "stage=ppo", *SIZE, *PARENTS, "ppo.updates=1"), pages=False)
    assert result.artifact is not None, result.message
    made = {name: next((outputs / "runs").glob(f"{name}-*/artifact")) for name in ("sft", "rm")}
    return tuple(f"parents.{name}={path}" for name, path in made.items())


def diagnosed(mutant: Mutant, outputs: Path, given: Sequence[str], patch: pytest.MonkeyPatch) -> list[Finding]:
    """Put the bug back, train, and ask."""
    wanted = () if mutant.stage == "sft" or mutant.own_parents else given
    run = make_run(outputs, f"stage={mutant.stage}", *SIZE, *SHORT[mutant.stage], *wanted, *mutant.settings)
    mutant.put_back(patch)
    result = chain.execute(run, pages=False)
    assert result.reason != "crash", result.message  # that would be this file's own bug
    return examine(read(Path(result.folder)))


def main(*names: str) -> None:
    """Print the table, of all or of those named."""
    with tempfile.TemporaryDirectory() as folder:
        given, named, rows = parents(Path(folder)), 0, []
        chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
        for mutant in chosen:
            with pytest.MonkeyPatch.context() as patch:
                found = diagnosed(mutant, Path(folder) / mutant.name, given, patch)
            said = list(dict.fromkeys(each.name for each in found))
            named += mutant.finding in said
            told = f"`{mutant.finding}`" if mutant.finding in said else "not seen"
            others = ", ".join(name for name in said if name != mutant.finding)
            rows.append(f"| `{mutant.name}` | {mutant.issues} | {mutant.stage} | {mutant.how} | {told} | {others} |")
            print(rows[-1], flush=True)
        print("\n".join(rows), f"\n{named} of {len(chosen)} are named", sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
