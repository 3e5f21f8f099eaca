"""One score from those of several scorers, lower where they disagree (after Coste et al. 2023)."""

from torch import Tensor

from rlhf.config import Pessimism, RewardConfig


def disagreement(scores_NK: Tensor) -> Tensor:
    """Standard deviation [N] over the K scorers, whose scores are on one scale; 0 of a single one."""
    return scores_NK.std(1, correction=0)


def pessimistic(scores: Tensor, config: RewardConfig) -> Tensor:
    """The score [N] of each response.

    deviation   mean over scorers - disagreement_coef * standard deviation over them
    worst       the lowest: worst-case optimisation

    Where scorers shift and scale their scores, all alike, the result is shifted and scaled the same.

    Args:
        scores: of several scorers [N, K]; those of a single one [N] are given back.
    """
    if scores.dim() == 1:
        return scores
    if config.pessimism is Pessimism.worst:
        return scores.amin(1)
    return scores.mean(1) - config.disagreement_coef * disagreement(scores)
