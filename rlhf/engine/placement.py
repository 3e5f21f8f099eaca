"""Where networks that are only asked, and never trained, keep their weights."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rlhf.fault import Fault

T = TypeVar("T")
AUTO, CPU = "auto", "cpu"


def look(where: str, key: str = "") -> None:
    """See whether there is a device called ``where``.

    Raises:
        Fault: there is none here; ``key`` is the setting that names it, with its sign of equality.
    """
    device = torch.device("cpu" if where == AUTO else where)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Fault(f"{key}{where}: torch sees {torch.cuda.device_count()} GPUs here; name one of them, or use auto or cpu")


class Placement:
    """The frozen networks of one engine: on its device, in CPU memory until they are used, or on a device of their own."""

    def __init__(self, home: torch.device) -> None:
        self._home = home
        self._elsewhere: dict[nn.Module, torch.device] = {}

    def put(self, module: nn.Module, where: str, dtype: torch.dtype | None) -> None:
        """Freeze ``module`` and move it to ``where``: `auto` (the engine's device), `cpu`, or the name of a device.

        Raises:
            Fault: there is no such device here.
        """
        module.eval().requires_grad_(False)
        look(where)
        device = self._home if where == AUTO else torch.device(where)
        module.to(device, dtype)
        if device != self._home:
            self._elsewhere[module] = device

    @contextmanager
    def at_home(self, module: nn.Module) -> Iterator[None]:
        """Inside, the weights are on the engine's device. They are frozen, so afterwards nothing is copied back."""
        if module not in self._elsewhere:
            yield
            return
        places = [slots for each in module.modules() for slots in (each._parameters, each._buffers)]
        kept = [dict(slots) for slots in places]
        here = {each: each.to(self._home) for each in (*module.parameters(), *module.buffers())}  # tied ones once
        try:
            for slots in places:
                slots.update({name: here[each] for name, each in slots.items() if each is not None})  # type: ignore[misc]
            yield
        finally:
            for slots, before in zip(places, kept, strict=True):
                slots.update(before)  # type: ignore[arg-type]

    def run(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        """``function(module, *arguments)``: in CPU memory weights come to the inputs, to another device the inputs go."""
        device = self._elsewhere.get(module)
        if device is None or device.type == "cpu":
            with self.at_home(module):
                return function(module, *arguments)
        result: T = _moved(function(module, *(_moved(each, device) for each in arguments)), self._home)
        return result


def _moved(value: Any, device: torch.device) -> Any:
    """``value`` with the tensors in it, also those in a tuple or a dataclass, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return type(value)(_moved(each, device) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: _moved(getattr(value, item.name), device) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
