"""The one training loop all stages share. It owns time: rounds, steps, evaluations, checkpoints, stopping."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from rlhf.engine.base import Engine, NonFinite
from rlhf.metrics import Mean, Metrics, Total
from rlhf.selection import Selection
from rlhf.stages.interface import Evaluation, Stage

HANDED = "handed"
"""What the backward passes of a step got; never in the record."""
SMALL_LOSS = 0.01
"""Below it an error is told as if the loss were as large, since rounding does not shrink with it."""


class Stopped(RuntimeError):
    """The run was asked to stop and has saved a checkpoint."""


class Pruned(RuntimeError):
    """The study ended the run at a rung; a checkpoint has been saved."""


class Watcher(Protocol):
    """What the loop reports to: the record, the checkpoint and the screen."""

    def log(self, round_: int, metrics: Metrics) -> None:
        """A row of training metrics after ``round_`` rounds."""
        ...

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        """Held-out measurements after ``round_`` rounds."""
        ...

    def save(self, round_: int) -> None:
        """Write a checkpoint from which round ``round_`` is the next."""
        ...


class Recorder(Protocol):
    """What keeps a round that it wants to, with all that the round starts from."""

    def begins(self, round_: int) -> None:
        """Before anything of round ``round_`` is made."""
        ...

    def ended(self, round_: int, metrics: Metrics) -> None:
        """After its last step, with what it measured."""
        ...


def train(
    stage: Stage[Any],
    engine: Engine,
    watcher: Watcher,
    seed: int,
    first_round: int = 0,
    stop: Callable[[], bool] = lambda: False,
    selection: Selection | None = None,
    prunes: Callable[[int], bool] | None = None,
    recorder: Recorder | None = None,
) -> int:
    """Train ``stage`` from ``first_round`` to its last, or until ``selection`` has seen enough.

    Args:
        prunes: asked on rank 0 after each evaluation on the way, with the rounds done, whether the study ends the run here.

    Returns:
        rounds done.

    Raises:
        NonFinite: a loss or a gradient norm is not a finite number.
        Stopped: ``stop`` returned true; a checkpoint has been saved.
        Pruned: ``prunes`` returned true; a checkpoint has been saved.
    """
    batches = stage.batches(first_round)
    pending = Metrics()
    for round_ in range(first_round, stage.rounds):
        if recorder is not None:
            recorder.begins(round_)
        torch.manual_seed(_round_seed(seed, round_))  # dropout: the same after a resume, whatever was evaluated in between
        began, elsewhere = time.perf_counter(), engine.phase_seconds
        metrics_of_round = learn(stage, engine, next(batches), round_)
        pending += metrics_of_round
        pending += {"time/train_s": Total(time.perf_counter() - began - (engine.phase_seconds - elsewhere))}
        if recorder is not None:
            recorder.ended(round_, metrics_of_round)

        done = round_ + 1
        last = done == stage.rounds
        stopping = engine.agree(stop()) and not last
        saving = stopping or (not last and _due(stage.save_every, done))
        enough = selection is not None and selection.moved_too_far(metrics_of_round)
        evaluating = not last and not enough and (_due(stage.eval_every, done) or _ends_epoch(stage, done))
        rung = prunes is not None and evaluating
        if last or saving or enough or rung or _due(stage.log_every, done):  # a checkpoint never falls inside a row
            watcher.log(done, pending)
            pending = Metrics()
        pruned = False
        if evaluating:
            enough = evaluate(stage, engine, watcher, selection, done)
            if prunes is not None and not enough:
                pruned = engine.agree(engine.rank == 0 and prunes(done))
        if enough:
            return done
        if saving or pruned:
            watcher.save(done)
        if pruned:
            raise Pruned(f"ended after {done} of {stage.rounds} rounds")
        if stopping:
            raise Stopped(f"stopped after {done} of {stage.rounds}")
    return stage.rounds


def _ends_epoch(stage: Stage[Any], done: int) -> bool:
    """Whether an evaluated pass over the data ends with round ``done``: the last whole one that a run of it would have."""
    if stage.rounds_per_epoch is None or not stage.eval_every_epoch:
        return False
    epoch = math.ceil(done / stage.rounds_per_epoch)
    return epoch * stage.rounds_per_epoch < done + 1


def learn(stage: Stage[Any], engine: Engine, batches: Iterable[Any], round_: int) -> Metrics:
    """One optimizer step on each batch of a round, and what was measured on the way.

    Raises:
        NonFinite: a loss or a gradient norm is not a finite number.
    """
    metrics_of_round = Metrics()
    for batch in batches:
        metrics = Metrics(batch.metrics if engine.rank == 0 else {})  # of the whole batch, so one rank counts them
        weight = batch.weight
        if weight == 0:  # there is nothing to learn, so no step is taken
            metrics_of_round += engine.total(metrics)
            continue
        micro_batches = engine.share(batch.split(stage.micro_batch_size))
        for index, micro_batch in enumerate(micro_batches, 1):
            losses, measured = stage.loss(micro_batch)
            shares = {name: loss / weight for name, loss in losses.items()}  # of the mean over the whole batch
            engine.backward(shares, last=index == len(micro_batches))
            metrics += measured
            metrics += {"loss": Mean(sum(loss.item() for loss in losses.values()), micro_batch.weight)}
            metrics += {HANDED: Total(sum(share.item() for share in shares.values()))}
        metrics = _compared(engine.total(metrics)) + engine.step()
        _refuse_non_finite(metrics, round_)
        metrics_of_round += metrics
    return metrics_of_round


def _compared(metrics: Metrics) -> Metrics:
    """``metrics`` of a step with, instead of what the backward passes got in all, how far that is from the loss."""
    loss = metrics["loss"].value
    error = abs(metrics[HANDED].value - loss) / max(abs(loss), SMALL_LOSS)
    kept = {name: metric for name, metric in metrics.items() if name != HANDED}
    return Metrics({**kept, "signs/accumulation_error": Mean(error, 1)})


def measure(stage: Stage[Any], engine: Engine, round_: int) -> Evaluation:
    """The stage's evaluation, its time and memory counted apart."""
    with engine.phase("evaluate"):
        return stage.evaluate(round_)


def evaluate(stage: Stage[Any], engine: Engine, watcher: Watcher, selection: Selection | None, round_: int) -> bool:
    """Measure and tell of it; whether ``selection`` has seen enough.

    Raises:
        Fault: ``selection`` follows what is not measured; only before the first round.
    """
    evaluation = measure(stage, engine, round_)
    watcher.evaluated(round_, evaluation)
    return selection is not None and selection.evaluated(round_, evaluation)


def _due(every: int, done: int) -> bool:
    return every > 0 and done % every == 0


def _round_seed(seed: int, round_: int) -> int:
    return (seed * 1_000_003 + round_) % 2**63


def _refuse_non_finite(metrics: Metrics, round_: int) -> None:
    for name, metric in metrics.items():
        if (name == "loss" or name.startswith("grad_norm/")) and not math.isfinite(metric.value):
            raise NonFinite(f"{name} is {metric.value} in round {round_ + 1}")
