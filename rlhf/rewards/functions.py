"""Built-in rules that score a response from its text. One small function each; ``make`` chooses by configuration."""

import re
from collections.abc import Callable, Sequence

from rlhf.config import RewardConfig, RewardFunction
from rlhf.fault import Fault

LAST_NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)(?!.*\d)"
"""Finds the last number of a text: what grade-school answers are checked by."""


def length(response: str, target_words: int) -> float:
    """0 at ``target_words`` words, falling linearly to -1 at none and at twice as many; never below -1."""
    return -min(1.0, abs(len(response.split()) - target_words) / target_words)


def regex(response: str, pattern: str) -> float:
    """1 if ``pattern`` is found anywhere in the response, else 0."""
    return float(re.search(pattern, response, re.DOTALL) is not None)


def answer(response: str, solution: str, pattern: str = LAST_NUMBER) -> float:
    """1 if response and solution give the same answer, else 0.

    The answer is the first group of ``pattern`` (default: the last number); thousands separators and trailing zeros of a
    fraction do not matter. A response without an answer scores 0.
    """
    given, wanted = answer_in(response, pattern), answer_in(solution, pattern)
    return float(given is not None and given == wanted)


def make(config: RewardConfig) -> Callable[[list[list[dict[str, str]]], list[str], list[str | None]], Sequence[float]]:
    """The rule ``config.function`` names, over many responses.

    Raises:
        Fault: `sentiment` without its extra.
    """
    match config.function:
        case RewardFunction.length:
            words = config.target_words
            assert words is not None
            return lambda prompts, responses, solutions: [length(each, words) for each in responses]
        case RewardFunction.regex:
            pattern = config.pattern
            assert pattern is not None
            return lambda prompts, responses, solutions: [regex(each, pattern) for each in responses]
        case RewardFunction.answer:
            form = config.pattern or LAST_NUMBER
            return lambda prompts, responses, solutions: [
                answer(each, _needed(solution, prompt), form)
                for prompt, each, solution in zip(prompts, responses, solutions, strict=True)
            ]
        case RewardFunction.sentiment:
            judge = _vader()
            return lambda prompts, responses, solutions: [judge(each) for each in responses]
        case None:
            raise AssertionError("`checks` lets no rule without a name pass")


def _vader() -> Callable[[str], float]:
    """Compound sentiment from -1 to 1 by a lexicon and rules (Hutto and Gilbert 2014)."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # an extra
    except ImportError as error:
        raise Fault("reward.function=sentiment: needs an extra; pip install 'rlhf[sentiment]'") from error
    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


def _needed(solution: str | None, prompt: list[dict[str, str]]) -> str:
    if solution is None:
        shown = prompt[-1]["content"][:60] if prompt else ""
        raise Fault(
            f"reward.function=answer: the prompt {shown!r} has no solution to check against; use data whose rows have one "
            "(a demonstration), and leave other sources out of stage ppo"
        )
    return solution


def answer_in(text: str, pattern: str) -> str | None:
    """The first group of ``pattern`` in ``text``, a number in its plainest form; None if it is not found."""
    match = re.search(pattern, text, re.DOTALL)
    if match is None:
        return None
    found = match.group(1).strip()
    number = found.replace(",", "")
    if re.fullmatch(r"-?\d+(\.\d+)?", number):
        whole, _, fraction = number.partition(".")
        fraction = fraction.rstrip("0")
        return f"{int(whole)}.{fraction}" if fraction else str(int(whole))
    return found
