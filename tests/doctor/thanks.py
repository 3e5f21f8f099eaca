"""A reward that a policy can collect without being of any use."""

from collections.abc import Sequence


def score(prompts: Sequence[object], responses: Sequence[str], solutions: Sequence[object]) -> list[float]:
    """How often each response says thanks."""
    return [float(response.lower().count("thank")) for response in responses]
