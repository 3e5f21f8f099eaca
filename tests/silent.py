"""A run that nobody watches."""

from rlhf.metrics import Metrics
from rlhf.stages.interface import Evaluation


class Silent:
    """A watcher that keeps nothing."""

    def log(self, round_: int, metrics: Metrics) -> None: ...

    def evaluated(self, round_: int, evaluation: Evaluation) -> None: ...

    def save(self, round_: int) -> None: ...
