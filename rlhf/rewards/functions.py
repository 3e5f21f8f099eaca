"""Built-in rules that score a response from its text. One small function each; ``make`` chooses by configuration."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal

from rlhf.config import RewardConfig, RewardFunction
from rlhf.fault import Fault

NUMBER = re.compile(r"(?:(?<![\w.)])[-\u2212\u2013]\$?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)")
"""A number in running text: `-5`, `-$5` and with a typeset minus, but not the 5 of `3-5`; `1,234.50`, `.5`."""

PLAIN = str.maketrans({"\u2212": "-", "\u2013": "-", ",": None, "$": None})


def length(response: str, target_words: int) -> float:
    """0 at ``target_words`` words, falling linearly to -1 at none and at twice as many; never below -1."""
    return -min(1.0, abs(len(response.split()) - target_words) / target_words)


def regex(response: str, pattern: str) -> float:
    """1 if ``pattern`` is found anywhere in the response, else 0."""
    return float(re.search(pattern, response, re.DOTALL) is not None)


def answer(response: str, solution: str, pattern: str | None = None) -> float:
    """1 if response and solution give the same answer, else 0.

    The answer is the first group of ``pattern``, or without one the last number, by which grade-school answers are checked.
    Numbers are compared by what they are worth: thousands separators and leading and trailing zeros do not matter. A
    response without an answer scores 0.
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
            return lambda prompts, responses, solutions: [
                answer(each, _needed(solution, prompt), config.pattern)
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


def answer_in(text: str, pattern: str | None) -> Decimal | str | None:
    """The answer that ``text`` gives, a number where it is one; None if there is none."""
    if pattern is None:
        found = deque(NUMBER.finditer(text), maxlen=1)
        return _worth(found[0].group()) if found else None
    match = re.search(pattern, text, re.DOTALL)
    said = match.group(1) if match else None  # an alternative of the pattern may leave its group out
    if said is None:
        return None
    return _worth(said) if NUMBER.fullmatch(said.strip()) else said.strip()


def _worth(number: str) -> Decimal:
    """Exact, however many digits a policy that repeats itself writes."""
    return Decimal(number.strip().translate(PLAIN))
