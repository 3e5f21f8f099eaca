"""What a person sees while a run goes on: a line now and then, with the time left and, if a price is known, the cost."""

import sys
import time
from collections.abc import Mapping

from rlhf.lineage import PRICED

SHOWN = {
    "pretrain": ("loss", "eval/perplexity"),
    "sft": ("loss", "eval/perplexity"),
    "rm": ("loss", "rewards/accuracies", "eval/accuracy", "eval/rating_mse"),
    "dpo": ("loss", "rewards/accuracies", "eval/accuracy", "reward/gain", "reward/gold_gain"),
    "kto": ("loss", "rewards/accuracies", "kto/reference_point", "eval/auc", "reward/gain", "reward/gold_gain"),
    **dict.fromkeys(PRICED, ("objective/scores", "objective/kl", "reward/gain", "reward/gold_gain")),
    "best_of_n": ("loss", "objective/scores", "objective/kept_scores", "reward/gain", "reward/gold_gain"),
}
"""Metrics worth a place on the line, by stage."""

SECONDS_BETWEEN_LINES = 5.0


class Screen:
    """Prints progress lines for one run; plain text, so that logs stay readable."""

    def __init__(
        self, name: str, stage: str, rounds: int, first_round: int, usd_per_second: float | None, seconds_before: float
    ) -> None:
        """For a run that goes on after ``first_round`` rounds, which took it ``seconds_before``; they are in its cost."""
        self._name, self._stage, self._rounds, self._first = name, stage, rounds, first_round
        self._usd_per_second, self._seconds_before = usd_per_second, seconds_before
        self._began = time.perf_counter()
        self._last_line = 0.0

    def progress(self, round_: int, row: Mapping[str, float], always: bool = False) -> None:
        """One line, at most every few seconds unless ``always``."""
        now = time.perf_counter()
        if not always and round_ < self._rounds and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        elapsed = now - self._began
        parts = [f"{self._name}  {round_}/{self._rounds}", _clock(elapsed)]
        done = round_ - self._first
        if done > 0 and round_ < self._rounds:
            parts.append(f"left {_clock(elapsed / done * (self._rounds - round_))}")
        if self._usd_per_second:
            parts.append(f"${(self._seconds_before + elapsed) * self._usd_per_second:.2f}")
        parts += [f"{metric.rpartition('/')[2]} {row[metric]:.4g}" for metric in SHOWN[self._stage] if metric in row]
        print("  ".join(parts), flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        print(text, flush=True)


def warn(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
