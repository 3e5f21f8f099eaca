"""What the one loop does between a batch and a step, and when it reports, evaluates, saves and stops."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from rlhf import loop
from rlhf.config import Device, Precision
from rlhf.engine.base import NonFinite, Trainable
from rlhf.engine.torch_engine import TorchEngine
from rlhf.metrics import Mean, Metrics, Total
from rlhf.stages.interface import Evaluation
from tests.adam import adam

SPEC = adam(learning_rate=0.01, max_grad_norm=100.0)


@dataclass(frozen=True)
class Numbers:
    """Inputs of a one-weight model; every number is a unit of the loss."""

    values: Tensor
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        return len(self.values)

    def split(self, size: int) -> list["Numbers"]:
        return [Numbers(part) for part in self.values.split(size)]


class Slope:
    """Minimises the mean of (w - x)^2."""

    def __init__(self, micro_batch_size: int = 8, rounds: int = 4, steps_per_round: int = 1, poison: int | None = None) -> None:
        self.micro_batch_size, self.rounds, self.steps_per_round, self._poison = (
            micro_batch_size,
            rounds,
            steps_per_round,
            poison,
        )
        self.log_every, self.eval_every, self.save_every = 1, 0, 0
        self.rounds_per_epoch: Fraction | None = None
        self.eval_every_epoch = False
        self.module = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.module.weight.zero_()
        self.started: list[int] = []
        self.noise: list[float] = []

    def batches(self, first_round: int) -> Iterator[Iterator[Numbers]]:
        for round_ in range(first_round, 10**6):
            self.started.append(round_)
            yield self._steps(round_)

    def _steps(self, round_: int) -> Iterator[Numbers]:
        for step in range(self.steps_per_round):
            values = torch.arange(8.0) + round_ + step
            if round_ == self._poison:
                values[3] = float("nan")
            yield Numbers(values, Metrics({"made": Total(1.0)}))

    def loss(self, batch: Numbers) -> tuple[dict[str, Tensor], Metrics]:
        self.noise.append(torch.rand(()).item())
        loss = (self.module.weight - batch.values).square().sum()
        return {"policy": loss}, Metrics({"input": Mean.of(batch.values)})

    def evaluate(self, round_: int) -> Evaluation:
        torch.rand(round_ + 5)  # draws from the global generator; training must not notice
        return Evaluation(Metrics({"eval/at": Mean(round_, 1)}))


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.events: list[str] = []

    def log(self, round_: int, metrics: Metrics) -> None:
        self.rows.append((round_, metrics.values_by_name()))
        self.events.append(f"log {round_}")

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        self.events.append(f"evaluate {round_}")

    def save(self, round_: int) -> None:
        self.events.append(f"save {round_}")


def run(stage: Slope, **options: object) -> Notes:
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"policy": Trainable(stage.module, SPEC)})
    notes = Notes()
    loop.train(stage, engine, notes, seed=0, **options)  # type: ignore[arg-type]
    return notes


def test_the_loss_is_a_mean_over_the_batch_however_it_is_cut() -> None:
    # first batch 0 .. 7 at w = 0: mean of squares 140 / 8 = 17.5, gradient -2 * mean = -7
    for size in (8, 4, 3, 1):
        notes = run(Slope(micro_batch_size=size, rounds=1))
        ((_, row),) = notes.rows
        assert row["loss"] == pytest.approx(17.5)
        assert row["grad_norm/policy"] == pytest.approx(7.0)
        assert row["input"] == pytest.approx(3.5)
        assert row["made"] == 1.0


def test_rounds_take_their_own_number_of_batches_lazily() -> None:
    stage = Slope(rounds=3, steps_per_round=2)
    notes = run(stage)
    assert stage.started == [0, 1, 2]  # nothing was made ahead of time
    assert [row["made"] for _, row in notes.rows] == [2.0, 2.0, 2.0]


def test_rows_evaluations_and_checkpoints_come_when_they_are_due() -> None:
    stage = Slope(rounds=6)
    stage.log_every, stage.eval_every, stage.save_every = 4, 3, 2
    assert run(stage).events == ["log 2", "save 2", "evaluate 3", "log 4", "save 4", "log 6"]


def test_epochs_end_with_their_last_whole_round() -> None:
    stage = Slope(rounds=13)
    stage.rounds_per_epoch, stage.eval_every_epoch = Fraction(10, 4), True  # 10 rows in batches of 4
    assert [each for each in run(stage).events if "evaluate" in each] == [f"evaluate {done}" for done in (2, 5, 7, 10, 12)]
    several = Slope(rounds=4)
    several.rounds_per_epoch, several.eval_every_epoch = Fraction(1, 3), True  # a batch holds three epochs
    assert [each for each in run(several).events if "evaluate" in each] == ["evaluate 1", "evaluate 2", "evaluate 3"]


def test_rows_between_two_logs_are_added_up() -> None:
    stage = Slope(rounds=4)
    stage.log_every = 2
    notes = run(stage)
    assert [round_ for round_, _ in notes.rows] == [2, 4]
    assert [row["input"] for _, row in notes.rows] == [pytest.approx(4.0), pytest.approx(6.0)]
    assert [row["made"] for _, row in notes.rows] == [2.0, 2.0]


def test_a_stop_saves_a_checkpoint_and_the_last_round_is_never_stopped() -> None:
    stage, notes = Slope(rounds=5), Notes()
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"policy": Trainable(stage.module, SPEC)})
    with pytest.raises(loop.Stopped, match="2 of 5"):
        loop.train(stage, engine, notes, seed=0, stop=lambda: len(notes.rows) == 1)
    assert notes.events == ["log 1", "log 2", "save 2"]
    assert run(Slope(rounds=1), stop=lambda: True).events == ["log 1"]


def test_a_pruned_run_has_its_evaluation_and_a_checkpoint_and_ends_at_once() -> None:
    stage, asked = Slope(rounds=9), []
    stage.log_every, stage.eval_every = 4, 3
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"policy": Trainable(stage.module, SPEC)})
    notes = Notes()

    def prunes(round_: int) -> bool:
        asked.append(round_)
        notes.events.append(f"ask {round_}")
        return round_ == 6

    with pytest.raises(loop.Pruned, match="6 of 9"):
        loop.train(stage, engine, notes, seed=0, prunes=prunes)
    assert notes.events == ["log 3", "evaluate 3", "ask 3", "log 4", "log 6", "evaluate 6", "ask 6", "save 6"]
    whole = Slope(rounds=6)
    whole.eval_every = 3
    run(whole, prunes=lambda round_: asked.append(-round_) or False)
    assert asked == [3, 6, -3]  # the last evaluation ends the run anyway


def test_ranks_end_together_though_only_rank_0_asks() -> None:
    class Second(TorchEngine):
        """The other of two ranks, the first of which has been told to end."""

        rank, ranks, agreed = 1, 2, 0

        def agree(self, wish: bool) -> bool:
            self.agreed += 1
            return wish or self.agreed == 4  # after three rounds whether to stop, then whether rank 0 was told to end

    stage, notes = Slope(micro_batch_size=4, rounds=9), Notes()
    stage.eval_every = 3
    engine = Second(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"policy": Trainable(stage.module, SPEC)})
    with pytest.raises(loop.Pruned):
        loop.train(stage, engine, notes, seed=0, prunes=lambda round_: pytest.fail("only rank 0 asks"))
    assert notes.events[-2:] == ["evaluate 3", "save 3"]


def test_noise_of_a_round_depends_on_the_round_alone() -> None:
    whole, evaluated, later = Slope(rounds=4), Slope(rounds=4), Slope(rounds=4)
    evaluated.eval_every = 1
    run(whole)
    run(evaluated)
    run(later, first_round=2)
    assert evaluated.noise == whole.noise
    assert later.noise == whole.noise[2:]
    assert len(set(whole.noise)) == 4


def test_a_number_that_is_not_finite_ends_the_run_and_names_the_round() -> None:
    stage = Slope(rounds=5, poison=2)
    with pytest.raises(NonFinite, match="loss is nan in round 3"):
        run(stage)
