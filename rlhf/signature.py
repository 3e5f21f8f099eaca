"""Names for results: what could have changed the weights, hashed.

``result_signature`` hashes the *result* fields a stage reads, its parents' signatures and the digest of its data: two
runs with the same one end with the same weights, whatever the system settings. ``run_signature`` adds the *system*
fields, so that a cell of a study that only differs in speed is still a run of its own. Versions of code and libraries
are recorded and warned about, not hashed.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from rlhf.config import LoraConfig, Run

FORMAT = 1
"""Part of every hash; raised when the meaning of a field changes under the same name."""

ENGINE_READS = ("precision", "fp32_loss", "deterministic", "device", "ranks", "zero", "offload", "deepspeed")
"""Read by the engine, and so by every stage."""


def result_signature(run: Run, stage: str, reads: Sequence[str], parents: Mapping[str, str], data_digest: str) -> str:
    """What identifies the weights ``stage`` ends with, as 16 hex digits."""
    content = {"parents": dict(parents), "data_digest": data_digest, "fields": signed_fields(run, stage, reads, {"result"})}
    return _hash(content)


def run_signature(run: Run, stage: str, reads: Sequence[str], result: str) -> str:
    """What identifies one way of computing the result ``result``, as 8 hex digits."""
    return _hash({"result": result, "fields": signed_fields(run, stage, reads, {"system"})})[:8]


def signed_fields(run: Run, stage: str, reads: Sequence[str], affects: set[str]) -> dict[str, Any]:
    """The fields of ``run`` that ``stage`` and its engine read and that are declared to affect ``affects``, as plain data."""
    signed: dict[str, Any] = {"format": FORMAT, "stage": stage}
    for item in dataclasses.fields(run):
        if item.name in (*ENGINE_READS, *reads) and item.name != "stage":
            value = getattr(run, item.name)
            if dataclasses.is_dataclass(value) or item.metadata["affects"] in affects:
                signed[item.name] = _plain(value, affects)
    return signed


def _plain(value: Any, affects: set[str]) -> Any:
    if dataclasses.is_dataclass(value):
        plain = {}
        without_adapters = isinstance(value, LoraConfig) and value.dim == 0  # then its other fields have nothing to act on
        for item in dataclasses.fields(value):
            if (without_adapters and item.name != "dim") or not item.metadata.get("signed", True):
                continue
            inner = getattr(value, item.name)
            if item.metadata.get("named_if", inner) != inner:
                continue
            if item.metadata["affects"] in affects or _holds_dataclasses(inner):
                plain[item.name] = _plain(inner, affects)
        return plain
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: _plain(inner, affects) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, affects) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity, but `max_grad_norm=inf` means something
    return value


def _holds_dataclasses(value: Any) -> bool:
    return dataclasses.is_dataclass(value) or (
        isinstance(value, Mapping) and any(map(dataclasses.is_dataclass, value.values()))
    )


def _hash(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
