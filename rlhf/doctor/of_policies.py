"""Rules about policies that learn from a reward or from preferences. Ranges as in docs/metrics.md."""

from collections.abc import Callable, Iterator

from rlhf.doctor.finding import Finding, History, Severity
from rlhf.lineage import JUDGED
from rlhf.report.paper import short

MOST_KL = 50.0
"""Nats a response from where it started: at about these the 1-B policies of Huang et al. 2024 are over-optimised."""
MOST_REPETITION, LEAST_VARIETY = 0.1, 0.5
"""Rise of the share of repeated 3-grams over the start's, and least part of its distinct word pairs."""
LEAST_ENDED = 0.5
LEAST_ENTROPY = 0.1
"""Of the entropy that the policy began with."""
MOST_LONGER = 1.5
"""Length of answers over that of the start's."""
MOST_CLIPPED, MOST_UPDATE_KL, MOST_IN_ONE_UPDATE = 0.3, 0.05, 0.5
LEAST_CLIP_RANGE = 0.05
"""Of narrower ones, as GSPO has, many tokens are outside after the smallest step."""
FEWEST_PROMPTS = 30
"""Below these the interval of a gain says little."""
MOST_BIAS = 3.0
"""Deviations of the returns that values may be off before the critic has learnt anything."""
LEAST_EXPLAINED = -10.0
"""Explained variance, below which they are no values of these returns."""
MOST_VALUE_LOSS = 8.0
"""Of the critic's first loss: it starts from nothing, and falls where it learns."""
MOST_CUT = 0.5
"""Share of scores."""
MOST_LENGTH = 0.8
MOST_LIKELIHOOD_LOST = 0.25
"""Share of its log-probability that the better answer may lose in preference optimisation."""


def entropy(run: History) -> Iterator[Finding]:
    """An entropy should not vanish."""
    values = [value for _, value in run.all("objective/entropy")]
    late = run.late("objective/entropy")
    if len(values) > 1 and late is not None and 0 <= late < LEAST_ENTROPY * values[0]:
        yield Finding(
            "entropy-collapse",
            Severity.warning,
            f"objective/entropy went from {short(values[0])} to {short(late)} nats a response",
            "The policy hardly samples any more, so it has nothing left to learn from.",
            f"Raise {run.stage}.kl_coef or {run.stage}.entropy_coef, or lower {run.stage}.learning_rate.",
        )


def hacked(run: History) -> Iterator[Finding]:
    """Gain in the reward beside that in the known reward, where there is one."""
    low, gold_high = run.last("reward/gain_low"), run.last("reward/gold_gain_high")
    enough = (run.setting("evaluation.prompts") or FEWEST_PROMPTS) >= FEWEST_PROMPTS
    if enough and low is not None and gold_high is not None and low > 0 > gold_high:
        yield Finding(
            "over-optimised",
            Severity.error,
            f"reward/gain is at least {short(low)} and reward/gold_gain at most {short(gold_high)}",
            "The score rose while the known reward fell: the reward model is being hacked.",
            f"{_hold(run).capitalize()}, stop earlier, or train the reward model on more.",
        )


def outcome(run: History) -> Iterator[Finding]:
    """Whether there is any gain in the reward."""
    low, high = run.last("reward/gain_low"), run.last("reward/gain_high")
    if low is not None and high is not None and low <= 0 <= high:
        yield Finding(
            "no-gain",
            Severity.warning,
            f"the interval of reward/gain, {short(low)} to {short(high)}, contains 0",
            "This run shows no gain over the policy it started from.",
            f"Train longer, raise the learning rate or {_let(run)}; or evaluate on more prompts (evaluation.prompts).",
        )


def distance(run: History) -> Iterator[Finding]:
    """How far it went from where it started."""
    kl = run.last("eval/kl")
    if kl is not None and kl > MOST_KL:
        yield Finding(
            "far-from-start",
            Severity.warning,
            f"eval/kl is {short(kl)} nats a response",
            "So far from its reference a reward model has seen nothing like these answers, and its scores mean little.",
            f"{_hold(run).capitalize()}, lower the learning rate, or stop earlier.",
        )


def answers(run: History) -> Iterator[Finding]:
    """What the answers look like beside those of the start."""
    repeated, before = run.last("response/repetition", "eval"), run.last("response/repetition_sft")
    if repeated is not None and before is not None and repeated > before + MOST_REPETITION:
        yield Finding(
            "repetition",
            Severity.warning,
            f"response/repetition is {short(repeated)}, of the start's answers {short(before)}",
            "The answers repeat themselves far more than those it started from.",
            f"Read the samples; {_hold(run)}, or stop earlier.",
        )
    variety, had = run.last("response/distinct_2", "eval"), run.last("response/distinct_2_sft")
    if variety is not None and had and variety < LEAST_VARIETY * had:
        yield Finding(
            "one-answer-for-all",
            Severity.warning,
            f"response/distinct_2 is {short(variety)}, of the start's answers {short(had)}",
            "Different prompts get the same words.",
            f"{_hold(run).capitalize()}, or stop earlier.",
        )
    length, began = run.last("response/length_mean", "eval"), run.start("response/length_mean")
    if length is not None and began and length > MOST_LONGER * began:
        yield Finding(
            "length-grows",
            Severity.warning,
            f"response/length_mean went from {short(began)} to {short(length)} tokens",
            "Rewards that like length are the commonest shortcut.",
            "Look at eval/length_correlation of the reward model; balance its data by length, or lower rollout.max_new_tokens.",
        )
    ended = run.last("response/eos_rate", "eval")
    if ended is not None and ended < LEAST_ENDED:
        yield Finding(
            "answers-cut-off",
            Severity.warning,
            f"only {short(100 * ended)} % of the answers end by themselves",
            "The others were cut, and are judged unfinished.",
            "Allow more tokens, train the SFT policy longer, or raise the penalty for no end token (`missing_eos_penalty`).",
        )


def steps(run: History) -> Iterator[Finding]:
    """How far single updates move the policy."""
    clipped, moved = run.late("policy/clipfrac_avg"), run.late("policy/approxkl_avg")
    once = max((value for _, value in run.all("policy/approxkl_avg")), default=0.0)
    too_far = once > MOST_IN_ONE_UPDATE or (moved is not None and moved > MOST_UPDATE_KL)
    judged = (run.setting(f"{run.stage}.clip_range") or 1.0) >= LEAST_CLIP_RANGE
    if too_far or (judged and clipped is not None and clipped > MOST_CLIPPED):
        told = f"policy/clipfrac_avg is {short(clipped or 0.0)} and policy/approxkl_avg {short(moved or 0.0)} of late"
        yield Finding(
            "steps-too-large",
            Severity.warning,
            f"{told}, at most {short(once)}",
            "Updates leave the region in which the rollout still tells the truth about the policy.",
            f"Lower {run.stage}.learning_rate or {run.stage}.inner_epochs.",
        )


def critic(run: History) -> Iterator[Finding]:
    """Whether values say anything about returns."""
    explained = run.late("val/explained_variance")
    if explained is not None and explained < 0:
        yield Finding(
            "critic-misleads",
            Severity.warning,
            f"val/explained_variance is {short(explained)} of late",
            "The critic's values are worse than their mean, so advantages are noisier than without it.",
            "Raise ppo.critic_warmup or ppo.critic_learning_rate, or start it from the reward model (ppo.critic_init).",
        )


def critic_loss(run: History) -> Iterator[Finding]:
    """Whether the critic's own steps overshoot."""
    losses = [value for _, value in run.all("loss/value_avg")]
    explained = run.late("val/explained_variance")
    if losses and max(losses) > MOST_VALUE_LOSS * losses[0] > 0 and (explained is None or explained < 0):
        yield Finding(
            "critic-diverges",
            Severity.warning,
            f"loss/value_avg went from {short(losses[0])} to {short(max(losses))}",
            "The critic's steps overshoot, and advantages are as wrong as its values.",
            "Lower ppo.critic_learning_rate, or warm it up (ppo.warmup_steps).",
        )


def critic_start(run: History) -> Iterator[Finding]:
    """Whether the critic begins near the returns that it is to predict."""
    bias, explained = run.first("val/value_bias"), run.first("val/explained_variance")
    if bias is not None and explained is not None and (abs(bias) > MOST_BIAS or explained < LEAST_EXPLAINED):
        yield Finding(
            "critic-starts-biased",
            Severity.warning,
            f"values of the first rollout are {short(bias)} deviations of the returns off, and explain {short(explained)}",
            "The first updates follow the critic's error and not the reward.",
            "Raise ppo.critic_warmup, and look at how the critic's head begins (ppo.critic_init).",
        )


def scores(run: History) -> Iterator[Finding]:
    """Whether the clip of the score hides differences."""
    clip, cut = run.setting(f"{run.stage}.reward_clip"), run.late("objective/score_clipped")
    if clip and cut is not None and cut > MOST_CUT:
        yield Finding(
            "scores-at-the-clip",
            Severity.warning,
            f"{run.stage}.reward_clip={short(clip)} cuts {short(100 * cut)} % of the scores of late",
            "Most answers get the same clipped score, so none is better than another.",
            f"Raise or drop {run.stage}.reward_clip, or normalise the scores ({run.stage}.reward_normalization=reference).",
        )


def score_length(run: History) -> Iterator[Finding]:
    """Whether the score is little else than the length."""
    correlation = run.late("objective/length_correlation")
    if correlation is not None and abs(correlation) > MOST_LENGTH:
        yield Finding(
            "score-follows-length",
            Severity.warning,
            f"objective/length_correlation is {short(correlation)} of late",
            "The policy is paid for the length of what it says.",
            "Balance the reward model's pairs by length; see its eval/length_correlation.",
        )


def likelihood(run: History) -> Iterator[Finding]:
    """Of preference optimisation: whether the better answers themselves become unlikely."""
    values = [value for _, value in run.all("logps/chosen", "train")]
    worse = [value for _, value in run.all("logps/rejected", "train")]
    if len(values) > 1 and values[-1] < (1 + MOST_LIKELIHOOD_LOST) * values[0] and worse[-1] < worse[0]:
        yield Finding(
            "likelihood-displaced",
            Severity.warning,
            f"logps/chosen went from {short(values[0])} to {short(values[-1])} nats, logps/rejected from {short(worse[0])} to "
            f"{short(worse[-1])}",
            "Both answers become unlikely, and something else likely.",
            f"{'Set dpo.sft_coef, raise' if run.stage == 'dpo' else 'Raise'} {_price(run)} or lower {run.stage}.learning_rate; "
            "and read the samples.",
        )


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (
    entropy,
    hacked,
    outcome,
    distance,
    answers,
    steps,
    critic,
    critic_loss,
    critic_start,
    scores,
    score_length,
    likelihood,
)


def _hold(run: History) -> str:
    """How to keep the policy nearer to where it started."""
    return "lower best_of_n.n" if run.stage == "best_of_n" else f"raise {_price(run)}"


def _let(run: History) -> str:
    """How to let it go further."""
    return "raise best_of_n.n" if run.stage == "best_of_n" else f"lower {_price(run)}"


def _price(run: History) -> str:
    """The key that holds the policy to where it started."""
    return f"{run.stage}.{'beta' if run.stage in JUDGED else 'kl_coef'}"
