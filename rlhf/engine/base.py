"""What stages, loop and run ask of an engine. Stages are written as if there were one process and one device.

Where there are several ranks, each is handed the same batch and keeps its share of the micro-batches; what is computed
without gradients is spread over the ranks and given back to all of them. So no stage knows how many there are.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from rlhf.config import Device, Precision
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.engine.placement import AUTO, Placement
from rlhf.fault import Fault
from rlhf.metrics import Metrics, Peak

T = TypeVar("T")
Item = TypeVar("Item")
N = TypeVar("N", bound=nn.Module)

TRAIN = "train"
"""The phase that everything outside of a named one counts to."""


class NonFinite(RuntimeError):
    """A loss or gradient is NaN or infinite; every later step would be too."""


@dataclass(frozen=True)
class Trainable:
    """A module that a stage trains, and how."""

    module: nn.Module
    optimizer: OptimizerSpec


class Engine(ABC):
    """Owns the device, the number format, the optimizers and the ranks of a run."""

    rank: int = 0
    """Of this process."""
    ranks: int = 1
    """Processes that share the work."""

    def __init__(self, device: Device, precision: Precision, deterministic: bool) -> None:
        cuda = torch.cuda.is_available() if device is Device.auto else device is Device.cuda
        if cuda and not torch.cuda.is_available():
            raise Fault("device=cuda: torch sees no GPU here; use device=auto or cpu")
        self.device = torch.device("cuda" if cuda else "cpu")
        if not cuda:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers imports DeepSpeed on saving, which else warns
        if precision is Precision.fp16 and not cuda:
            raise Fault("precision=fp16: needs a GPU, and torch sees none here; use precision=fp32")
        self.format = {Precision.fp32: None, Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}[precision]
        """Number format of the forward and backward pass where it is not fp32."""
        self.placement = Placement(self.device)
        """Of the networks that are only asked."""
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        self.steps = 0
        """Optimizer steps taken so far."""
        self.phase_seconds = 0.0
        """Time spent in phases so far."""
        self._seconds_of: dict[str, float] = {}
        self._peak_of: dict[str, float] = {}

    # networks

    @abstractmethod
    def place(self, module: nn.Module) -> None:
        """Move a module that will be trained to where it is trained."""

    @abstractmethod
    def freeze(self, module: nn.Module, where: str = AUTO) -> None:
        """Prepare a module that is only asked: no gradients, no dropout.

        Args:
            where: its weights are: `auto` beside those that are trained, `cpu` in CPU memory until they are used, or the
                name of a device that also computes with them.
        """

    @abstractmethod
    def prepare(self, trainable: dict[str, Trainable]) -> None:
        """Make an optimizer for each module that is trained. The modules are placed already."""

    @abstractmethod
    def forward(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        """``function(module, *arguments)`` in the run's precision: the only way to run a network, but for ``whole``."""

    @abstractmethod
    def whole(self, module: N) -> AbstractContextManager[N]:
        """A context in which this rank holds all of the module's weights and may call it as it likes, without gradients."""

    @abstractmethod
    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """State of the module in full precision, by name, whole on every rank. Every rank must call it."""

    @abstractmethod
    def put(self, module: nn.Module, weights: dict[str, Tensor]) -> None:
        """Let the module compute with these whole weights, by parameter name; its optimizer keeps its own. On every rank."""

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Operations inside run in the run's precision."""
        with torch.autocast(self.device.type, self.format, enabled=self.format is not None):
            yield

    # steps

    @abstractmethod
    def backward(self, losses: dict[str, Tensor], last: bool = True) -> None:
        """Add the gradients of the loss of each named module to those there; ``last``: before the optimizer step."""

    @abstractmethod
    def step(self) -> Metrics:
        """Clip, step and clear every module that has gradients; count one optimizer step.

        Returns:
            Gradient norm before clipping and learning rate of each module that was stepped; in fp16 also whether
            gradients overflowed, in which case none was.

        Raises:
            NonFinite: fp16 cannot hold the gradients, however small the loss scale.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer moments of all that is trained, by a flat name. Every rank must call it."""

    @abstractmethod
    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Put back what ``tensors`` of any engine returned after ``steps`` optimizer steps.

        Raises:
            KeyError: a weight is missing.
        """

    # ranks

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of ``items``."""
        return items[self.rank :: self.ranks]

    @abstractmethod
    def spread(self, items: Sequence[Item], work: Callable[[Item], T], networks: bool = True) -> list[T]:
        """``work`` on every item, each done by one rank, and the results for all ranks, in order.

        Args:
            networks: whether ``work`` runs one. Then a rank without an item of its own repeats the last one, since ranks
                that share a network's weights must run it equally often; else it does nothing.
        """

    @abstractmethod
    def total(self, metrics: Metrics) -> Metrics:
        """The sum of every rank's metrics."""

    @abstractmethod
    def agree(self, wish: bool) -> bool:
        """Whether any rank wishes it: what one may see and another not (a signal) is decided by all alike."""

    @abstractmethod
    def release(self) -> None:
        """Take off the networks what `prepare` has hung on them, and let go of the optimizers; the end of all training."""

    # what it costs

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count time and peak memory of what is inside to ``name``. Phases do not nest; memory outside counts to `train`."""
        self._close_peak(TRAIN)
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            self.phase_seconds += seconds
            self._seconds_of[name] = self._seconds_of.get(name, 0.0) + seconds
            self._close_peak(name)

    def take_costs(self) -> dict[str, float]:
        """Seconds of each phase since the last call, and each phase's peak memory so far, named as metrics.

        The memory is that of the rank which took most. Every rank must call it.
        """
        self._close_peak(TRAIN)
        self._peak_of = self.total(Metrics({name: Peak(peak) for name, peak in self._peak_of.items()})).values_by_name()
        seconds = {f"time/{name}_s": value for name, value in self._seconds_of.items()}
        self._seconds_of = {}
        return seconds | {f"mem/{name}_gib": value for name, value in self._peak_of.items()}

    def peak_memory_gib(self) -> float | None:
        """Largest memory of the device (CPU: resident memory of the process) since the last ``reset_peak_memory``.

        Of this rank, and as far as ``take_costs`` has heard, of all.
        """
        self._close_peak(TRAIN)
        return max(self._peak_of.values(), default=None)

    def reset_peak_memory(self) -> None:
        """Start measuring the peak anew."""
        self._peak_of = {}
        self._measure_anew()

    def _close_peak(self, name: str) -> None:
        cuda = self.device.type == "cuda"
        if (peak := torch.cuda.max_memory_allocated() / 2**30 if cuda else _resident_peak_gib()) is not None:
            self._peak_of[name] = max(peak, self._peak_of.get(name, 0.0))
        self._measure_anew()

    def _measure_anew(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")  # proc(5): resets the peak resident set size
        except OSError:
            pass  # not Linux, or not allowed: the peak is the process's


def trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by name."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def _resident_peak_gib() -> float | None:
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return None
