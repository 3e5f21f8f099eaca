"""Rules about what was computed: figures that contradict one another, or what they are figures of.

Each can be judged from any one row, so they are also asked while a run goes on.
"""

import math
from collections.abc import Callable, Iterator

from rlhf.doctor.finding import FULL, Finding, History, Severity
from rlhf.lineage import JUDGED, ONLINE
from rlhf.report.paper import short

ROUNDING = 0.05
"""Nats a response that two passes of the same weights may be apart in a low number format."""
MOST_OFF_SCALE, MOST_ERRORS = 1.0, 4.0
"""Deviations that the first answers' normalised scores may be from 0, and standard errors beyond which that is no chance."""
FEWEST_PAIRS = 100
"""Of a batch whose size is not known."""
MOST_OFF = 0.01
"""Relative difference of two ways to work out one number."""
MOST_OTHER_ENTROPY = 0.25
"""The same of the entropies before and during an update, which moves them."""


def start(run: History) -> Iterator[Finding]:
    """Before anything is learnt the policy is its reference, and scores are on the scale of its answers."""
    kl, score = run.start("eval/kl"), run.start("eval/score_mean")
    if kl is not None and abs(kl) > ROUNDING:
        yield Finding(
            "kl-not-zero-at-start",
            Severity.error,
            f"eval/kl is {short(kl)} nats before the first round",
            "Policy and reference are not the same weights, or not computed alike, so the penalty pulls elsewhere.",
            "Start both from the same artifact; look for dropout and for another number format.",
        )
    normalised = run.setting(f"{run.stage}.reward_normalization") == "reference"
    if normalised and score is not None and abs(score) > max(MOST_OFF_SCALE, MOST_ERRORS * _error_of_scores(run)):
        yield Finding(
            "scores-off-scale",
            Severity.error,
            f"eval/score_mean is {short(score)} deviations before the first round, not near 0",
            "Normalised scores of the first answers are 0 on average; a shift was lost, so end penalty and clip are off.",
            f"Look at the reward model's bias and at {run.stage}.normalization_prompts.",
        )


def _error_of_scores(run: History) -> float:
    """Standard error of the first answers' mean score in deviations: theirs, and that of what they are normalised by."""
    counts = (run.setting("evaluation.prompts"), run.setting(f"{run.stage}.normalization_prompts"))
    return math.sqrt(sum(1 / count for count in counts if count))


def reference(run: History) -> Iterator[Finding]:
    """A reference stays where it is while the policy moves."""
    told = "objective/kl" if run.stage in ONLINE else "rewards/chosen"
    trained = [at for at, _ in run.all("policy/approxkl_avg" if run.stage in ONLINE else told, "train")]
    moved = [value for at, value in run.all(told, "train") if trained and at > trained[0] + 1]
    if run.stage in (*ONLINE, *JUDGED) and moved and all(value == 0 for value in moved):
        yield Finding(
            "policy-equals-reference",
            Severity.error,
            f"{told} is exactly 0 in {len(moved)} rows after the first update",
            "Policy and reference are the same weights, so nothing holds the policy where it started, or nothing is learnt.",
            "Copy the reference before the first step, and look at what the optimizer steps.",
        )


def negative(run: History) -> Iterator[Finding]:
    """What cannot be negative."""
    entropies = [value for _, value in run.all("objective/entropy")]
    if entropies and min(entropies) < 0:
        yield Finding(
            "negative-entropy",
            Severity.error,
            f"objective/entropy falls to {short(min(entropies))}",
            "No distribution has a negative entropy: padding or a placeholder was summed.",
            "Look at the mask of the metric.",
        )
    latest = [value for _, value in run.all("objective/kl", "train")][-3:]
    if len(latest) == 3 and sum(latest) / len(latest) < -10 * ROUNDING:
        yield Finding(
            "negative-kl",
            Severity.error,
            f"objective/kl is {short(sum(latest) / len(latest))} nats a response over {len(latest)} rows",
            "A divergence is not negative: its sign is turned, or responses do not come from the policy they are judged by.",
            "Look at the sampler's settings and at the order of the two log-probabilities.",
        )


def sums(run: History) -> Iterator[Finding]:
    """Numbers that must agree, since they are one quantity worked out twice."""
    pairs = [
        (
            "signs/token_rewards",
            "objective/rlhf_reward",
            "reward-not-received",
            "token_rewards and the penalty's coefficient",
        ),
    ]
    for one, other, name, place in pairs:
        others = dict(run.all(other))
        both = [(first, others[at]) for at, first in run.all(one) if at in others]
        wrong = next(((first, second) for first, second in both if _differ(first, second, MOST_OFF)), None)
        if wrong is not None:
            yield Finding(
                name,
                Severity.error,
                f"{one} is {short(wrong[0])} and {other} {short(wrong[1])}",
                "What the policy is rewarded with is not what is told of it: a score is lost, or another KL is used.",
                f"Look at {place}.",
            )
    if run.setting("ppo.whiten_advantages") and (mean := run.first("signs/advantage_mean")) is not None:
        spread = run.first("signs/advantage_sd") or 0.0
        if abs(mean) > MOST_OFF or abs(spread - 1) > MOST_OFF:
            yield Finding(
                "whitening-wrong",
                Severity.error,
                f"advantages have mean {short(mean)} and deviation {short(spread)} over the responses' tokens",
                "Whitened advantages have mean 0 and deviation 1: something else, such as padding, was counted.",
                "Look at the mask of the whitening.",
            )


def entropies(run: History) -> Iterator[Finding]:
    """The entropy of responses, told a response before an update and a token during it, is one and the same."""
    whole, tokens = run.first("objective/entropy", "train"), run.first("response/length_mean", "train")
    each, moved = run.first("policy/entropy_avg", "train"), run.first("policy/approxkl_avg", "train")
    if moved is not None and moved > ROUNDING:
        return  # it became another policy meanwhile
    if whole and tokens and each and whole > 0 and _differ(whole / tokens, each, MOST_OTHER_ENTROPY, floor=0.05):
        yield Finding(
            "entropy-of-padding",
            Severity.error,
            f"objective/entropy is {short(whole)} over {short(tokens)} tokens, and policy/entropy_avg {short(each)} a token",
            "One of them counts what is no token of a response.",
            "Look at the mask of the metric.",
        )


def ends(run: History) -> Iterator[Finding]:
    """Whether training and evaluation agree on which responses ended."""
    trained, asked = run.first("response/eos_rate", "train"), run.start("response/eos_rate")
    counts = (run.setting("evaluation.prompts"), run.setting(f"{run.stage}.batch_size"))
    chance = MOST_ERRORS * math.sqrt(sum(0.25 / count for count in counts if count))
    if run.stage in ONLINE and trained is not None and asked is not None and abs(trained - asked) > max(0.5, chance):
        yield Finding(
            "ends-miscounted",
            Severity.error,
            f"response/eos_rate is {short(trained)} in training and {short(asked)} in the evaluation before it",
            "Which responses ended is found by another token in one of the two, so the end penalty hits the wrong ones.",
            "Look at which token ends a response.",
        )


def pairs(run: History) -> Iterator[Finding]:
    """Pairs whose answers get the same number."""
    full = run.setting("precision") in (None, FULL)
    ties = [value for _, value in run.all("signs/ties")]
    share = sum(ties) / len(ties) if ties else 0.0
    read = len(ties) * (run.setting(f"{run.stage}.batch_size") or FEWEST_PAIRS)  # a tie or two of few pairs are chance
    if share > (0.02 if full else 0.2) and share * read > 2:
        yield Finding(
            "identical-pairs",
            Severity.error,
            f"both answers of {short(100 * share)} % of the training pairs get the very same number",
            "The network reads the same tokens of both: they are equal, were cut to their common beginning, or are not read.",
            "Cut prompts and not answers, pass over equal ones, and look at where the score is read.",
        )


def gradients(run: History) -> Iterator[Finding]:
    """A trained network without a gradient."""
    names = sorted({name for row in run.rows for name in row if name.startswith("grad_norm/")})
    for name in names:
        norms = [value for _, value in run.all(name)]
        if len(norms) > 1 and max(norms) == 0:
            yield Finding(
                "no-gradient",
                Severity.error,
                f"{name} is 0 in all of {len(norms)} rows",
                "Its optimizer has nothing to follow: the network is cut off from its loss.",
                "Look at which parameters are trained, and for a detached tensor.",
            )


def leaks(run: History) -> Iterator[Finding]:
    """Held-out prompts that some stage trains on."""
    shares = {stage: share for stage, share in (run.facts.get("leaked") or {}).items() if share}
    if shares:
        told = ", ".join(f"{short(100 * share)} % of {stage}'s" for stage, share in shares.items())
        yield Finding(
            "split-leak",
            Severity.error,
            f"training prompts are among the held-out ones: {told}",
            "Held-out figures are those of training, and tell nothing about new prompts.",
            "Split by a hash of the prompt, the same in every stage.",
        )


def _differ(one: float, other: float, most: float, floor: float = 1.0) -> bool:
    return abs(one - other) > most * max(floor, abs(one), abs(other))


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (
    start,
    reference,
    negative,
    sums,
    entropies,
    ends,
    pairs,
    gradients,
    leaks,
)
