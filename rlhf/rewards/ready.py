"""Whether a reward can be had at all, seen before the stages under PPO are trained and paid for."""

from collections import Counter

from rlhf.config import RewardConfig, RewardFunction, RewardKind
from rlhf.data.corpus import Corpus
from rlhf.fault import Fault
from rlhf.rewards.functions import answer_in
from rlhf.rewards.text import Messages, ask, messages_of, scorer_of

PROMPT: list[Messages] = [[{"role": "user", "content": "What is 2 + 3?"}]]
RESPONSE, SOLUTION = "It is 5.", "5"
"""Invented: the one request a server gets before anything is trained. The solution goes out only if the data has some."""


def see(config: RewardConfig, corpus: Corpus) -> None:
    """Load a function, ask a server once, look for solutions where they are needed; a reward model is trained for it.

    Raises:
        Fault: the reward cannot be had, or not for this data.
    """
    if config.kind is RewardKind.model:
        return
    name, scorer = scorer_of(config)
    prompts = [*corpus.parts["ppo", "train"], *corpus.parts["ppo", "held_out"]]
    if config.kind is RewardKind.http:
        solved = any(example.solution is not None for example in prompts)
        ask(name, scorer, PROMPT, [RESPONSE], [SOLUTION if solved else None])
    if config.kind is RewardKind.file:
        first = prompts[0]
        try:
            ask(name, scorer, [messages_of(first)], [RESPONSE], [first.solution])
        except Fault:
            raise
        except Exception as error:
            raise Fault(f"{name}: failed on a first prompt ({type(error).__name__}: {error}); mend it") from error
    if config.kind is RewardKind.function and config.function is RewardFunction.answer:
        without = Counter(example.source for example in prompts if example.solution is None)
        if without:
            raise Fault(
                f"{name}: {without.total()} of {len(prompts)} prompts have no solution to check against (sources: "
                f"{', '.join(sorted(without))}); use data whose rows have one (a demonstration), and leave other sources "
                "out of stage ppo"
            )
        if all(answer_in(example.solution or "", config.pattern) is None for example in prompts):
            raise Fault(f"{name}: no solution of the data holds an answer as reward.pattern finds it; mend the pattern")
