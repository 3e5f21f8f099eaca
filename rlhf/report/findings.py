"""What a person should look at first: the end of a run that went wrong, and figures outside of their healthy range.

The ranges are those of docs/metrics.md.
"""

import math
from collections.abc import Iterator, Mapping

from rlhf.report.curves import NOT_METRICS, number
from rlhf.report.folder import RunFolder
from rlhf.report.paper import short
from rlhf.result import Status

MOST_REPETITION = 0.1
"""By how much the share of repeated 3-grams may rise over the SFT policy's."""
LEAST_ENDED = 0.5
"""Share of answers that should end by themselves."""
OVERFIT = 1.05
"""Held-out loss at the end over its lowest."""


def problems(run: RunFolder) -> Iterator[str]:
    """Why the run did not end well, if so, and where its record holds numbers that are not finite."""
    if run.result is None:
        yield "There is no result.json: the run is still going on, or it was killed. The same command goes on with it."
    elif run.result.status is not Status.finished:
        reason = f" ({run.result.reason})" if run.result.reason else ""
        yield f"{run.result.status.name}{reason}: {run.result.message or 'no message'}"
    for row in run.metrics:
        broken = [name for name, value in row.items() if name not in NOT_METRICS and not math.isfinite(number(value))]
        if broken:
            yield f"Not finite in round {row['round']}: {', '.join(broken)}"
            return  # from there on it would be every row


def remarks(run: RunFolder) -> Iterator[str]:
    """Figures that a careful reader would stop at."""
    last: dict[str, float] = {}
    for row in run.metrics:
        last |= {name: number(value) for name, value in row.items() if name not in NOT_METRICS}
    yield from _of_ppo(last)
    yield from _of_the_reward_model(last)
    losses = [number(row["eval/loss"]) for row in run.metrics if "eval/loss" in row]
    if len(losses) > 2 and losses[-1] > OVERFIT * min(losses):
        yield f"eval/loss ended at {short(losses[-1])} after {short(min(losses))}: overfitting; train shorter or slower."
    if last.get("response/eos_rate", 1.0) < LEAST_ENDED:
        rate = short(100 * last["response/eos_rate"])
        yield f"Only {rate} % of the answers end by themselves; the others were cut. Allow more tokens, or train longer."


def _of_ppo(last: Mapping[str, float]) -> Iterator[str]:
    if "reward/gain_low" in last and last["reward/gain_low"] <= 0 <= last["reward/gain_high"]:
        yield "The interval of reward/gain contains 0: this run shows no gain over the SFT policy."
    if last.get("reward/gain_low", 0.0) > 0 and last.get("reward/gold_gain_high", 0.0) < 0:
        yield "The score rose while the known reward fell: the reward model is being hacked. Raise ppo.kl_coef or stop earlier."
    if last.get("response/repetition", 0.0) > last.get("response/repetition_sft", math.inf) + MOST_REPETITION:
        yield "The answers repeat themselves far more than the SFT policy's; read the samples."
    if last.get("val/explained_variance", 0.0) < 0:
        worth = short(last["val/explained_variance"])
        yield f"val/explained_variance is {worth}: the critic misleads; see ppo.critic_warmup and ppo.critic_learning_rate."


def _of_the_reward_model(last: Mapping[str, float]) -> Iterator[str]:
    if last.get("eval/accuracy", math.inf) <= last.get("baseline/longer_wins", -math.inf):
        yield "eval/accuracy is no better than 'the longer answer wins': nothing but length may have been learnt."
