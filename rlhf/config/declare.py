"""How a field says what it can touch and what range it may be in."""

from dataclasses import field
from typing import Any

from omegaconf import MISSING

from rlhf import bounds


def result(**ends: Any) -> Any:
    """Declare a field that can change the weights a run ends with; ``ends`` are those of ``Bounds``."""
    return field(default=MISSING, metadata={"affects": "result", "bounds": bounds.Bounds(**ends)})


def system(**ends: Any) -> Any:
    """Declare a field that cannot change the weights of a run beyond rounding; ``ends`` are those of ``Bounds``."""
    return field(default=MISSING, metadata={"affects": "system", "bounds": bounds.Bounds(**ends)})


def switch() -> Any:
    """Declare a *system* field that is off or on; while it is off it names no run, so those from before it are still known."""
    return field(default=MISSING, metadata={"affects": "system", "named_if": True})


def composition() -> Any:
    """Declare a field that has done all it does once a run is composed, and names no result."""
    return field(default=MISSING, metadata={"affects": "system", "signed": False})


def place() -> Any:
    """Declare a field that says where something is whose content, which is signed itself, can change the weights."""
    return field(default=MISSING, metadata={"affects": "system", "content": True})
