"""Rules about what is fitted to data: language models and reward models. Ranges as in docs/metrics.md."""

import math
from collections.abc import Callable, Iterator

from rlhf.doctor.finding import Finding, History, Severity
from rlhf.lineage import JUDGED
from rlhf.report.paper import short

OVERFIT = 1.05
"""Held-out loss at the end over its lowest."""
MOST_CALIBRATION_ERROR = 0.1
MOST_LENGTH = 0.2
"""By how much a scorer may go further with length than people do."""
FEWEST_JUDGED = 30
"""Pairs of a source, below which an interval says little."""
FEWEST_PAIRS = 100
"""Below these a calibration error is mostly chance."""
LEAST_GOOD, MOST_GOOD = 0.8, 1.7
"""What good answers weigh beside bad ones: the 1 to 4/3 of Ethayarajh et al. 2024, with a quarter more on both sides."""
PROBABILITIES = ("pairwise", "tokenwise")
"""Losses by which the sigmoid of a margin is the share of people who agree."""
MOST_ERRORS = 3.0
"""Standard errors that a share may be off by chance."""
LEAST_FALL = 1e-3
"""Relative fall of the training loss over a run."""


def overfitting(run: History) -> Iterator[Finding]:
    """Held-out loss that has risen again."""
    losses = [value for _, value in run.all("eval/loss")]
    if len(losses) > 2 and losses[-1] > OVERFIT * min(losses):
        yield Finding(
            "overfitting",
            Severity.warning,
            f"eval/loss ended at {short(losses[-1])} after {short(min(losses))}",
            "The network learns its training data by heart.",
            f"Train shorter or slower, or keep the best weights ({run.stage}.keep_best=true).",
        )


def nothing_learnt(run: History) -> Iterator[Finding]:
    """A loss that does not fall."""
    if run.stage not in ("pretrain", "sft", "rm", *JUDGED):
        return
    losses = [value for _, value in run.all("loss", "train")]
    if len(losses) > 3 and min(losses[1:]) > (1 - LEAST_FALL) * losses[0] > 0:
        yield Finding(
            "nothing-learnt",
            Severity.warning,
            f"loss began at {short(losses[0])} and never fell below {short(min(losses))}",
            "The steps are too small or too large, or the data has nothing to learn.",
            f"Try debug=overfit; then another {run.stage}.learning_rate.",
        )


def cheap_scorers(run: History) -> Iterator[Finding]:
    """A scorer that is no better than counting characters."""
    accuracy, longer = run.last("eval/accuracy"), run.last("baseline/longer_wins")
    if accuracy is not None and longer is not None and accuracy <= longer:
        yield Finding(
            "no-better-than-length",
            Severity.warning,
            f"eval/accuracy is {short(accuracy)}, and 'the longer answer wins' gets {short(longer)}",
            "Nothing but length may have been learnt.",
            "Train longer or on more pairs; look at eval/accuracy of each source.",
        )


def upside_down(run: History) -> Iterator[Finding]:
    """A scorer that likes what people do not."""
    for name, high in _last_row(run, "eval/accuracy_high/"):
        pairs = run.last(f"eval/pairs/{name.removeprefix('eval/accuracy_high/')}")
        if high < 0.5 and (pairs is None or pairs >= FEWEST_JUDGED):
            yield Finding(
                "prefers-the-worse",
                Severity.error,
                f"{name} is {short(high)}: the interval of the accuracy lies below one half",
                "It likes the answers that people liked less, so a policy that follows it becomes worse.",
                "Look at which answer the data calls chosen, and at the sign of the loss.",
            )


def end_token(run: History) -> Iterator[Finding]:
    """A tokenizer that pads with the end token."""
    tokens = run.facts.get("tokens") or {}
    if tokens and tokens.get("pad_token") == tokens.get("eos_token"):
        yield Finding(
            "pad-is-end",
            Severity.error,
            f"pad and end token of the artifact's tokenizer are both {tokens['pad_token']}",
            "Who masks padding by its id masks the end, too, and a model that learns so never stops.",
            "Give the tokenizer a pad token of its own.",
        )


def calibration(run: History) -> Iterator[Finding]:
    """Margins that are no probabilities."""
    error = run.last("eval/calibration_error")
    pairs = sum(int(value) for name, value in _last_row(run, "eval/pairs/"))
    fits = run.setting("rm.loss") in (None, *PROBABILITIES)
    if run.stage == "rm" and fits and error is not None and error > MOST_CALIBRATION_ERROR and pairs >= FEWEST_PAIRS:
        yield Finding(
            "miscalibrated",
            Severity.warning,
            f"eval/calibration_error is {short(error)} on {pairs} pairs",
            "Margins are wider or narrower than people's preferences, so the scale that PPO weighs against the KL is off.",
            "Fewer epochs, rm.score_l2, or a smaller rm.learning_rate; see the calibration chart of the report.",
        )


def length(run: History) -> Iterator[Finding]:
    """A scorer that likes length more than people do."""
    scorer, people = run.last("eval/length_correlation"), run.last("baseline/length_correlation")
    if scorer is not None and people is not None and abs(scorer) > abs(people) + MOST_LENGTH:
        grows = "longer" if scorer > 0 else "shorter"
        yield Finding(
            "length-biased",
            Severity.warning,
            f"eval/length_correlation is {short(scorer)}, of people's choices {short(people)}",
            f"The score goes with length further than the preferences it learnt from; a policy that follows it grows {grows}.",
            "Balance the pairs by length, or train longer on more of them.",
        )


def labels(run: History) -> Iterator[Finding]:
    """Good answers or bad ones that weigh little beside the others."""
    shares = run.all("kto/good", "train")
    weights = [run.setting(f"kto.{kind}_weight") for kind in ("desirable", "undesirable")]
    if run.stage != "kto" or not all(weights) or not shares:
        return

    def ratio(good: float) -> float:
        return weights[0] * good / (weights[1] * (1 - good)) if good < 1 else math.inf

    good = sum(value for _, value in shares) / len(shares)
    answers = shares[-1][0] * (run.setting("kto.batch_size") or math.inf)
    chance = MOST_ERRORS * math.sqrt(good * (1 - good) / answers) if answers else 0.0
    unlike = ratio(min(1.0, good + chance)) < LEAST_GOOD or ratio(max(0.0, good - chance)) > MOST_GOOD
    if unlike:
        yield Finding(
            "labels-unbalanced",
            Severity.warning,
            f"{short(100 * good)} % of the answers are good, and weigh {short(ratio(good))} times as much as the bad ones",
            "One kind of label decides nearly all that is learnt.",
            "Set kto.desirable_weight or kto.undesirable_weight so that the ratio is 1 to 4/3.",
        )


def _last_row(run: History, prefix: str) -> list[tuple[str, float]]:
    names = {name for row in run.rows for name in row if name.startswith(prefix)}
    return [(name, value) for name in sorted(names) if (value := run.last(name)) is not None]


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (
    overfitting,
    nothing_learnt,
    cheap_scorers,
    upside_down,
    end_token,
    calibration,
    length,
    labels,
)
