"""What code, libraries, machine and data made a result: kept beside it, and compared when it is made again."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import torch

from rlhf.data.corpus import Corpus
from rlhf.sealed import write_atomically

PACKAGES = ("rlhf", "torch", "transformers", "tokenizers", "hydra-core", "omegaconf", "optuna", "datasets", "wandb")

FILES = ENVIRONMENT, LOCK, CHANGES = "environment.json", "requirements.txt", "changes.diff"
"""In a run's folder: where it ran; every installed package; how the code differed from its commit."""

FOLDER = "folder"
"""What the folder is called, in what is written down, that relative paths of the run start from."""

VARIABLES = (
    "CUDA_",
    "NCCL_",
    "TORCH_",
    "PYTORCH_",
    "CUBLAS_",
    "OMP_",
    "MKL_",
    "DS_",
    "RLHF_",
    "PYTHONHASHSEED",
    "HF_HUB_OFFLINE",
)
"""Beginnings of the environment variables that can change a run; others are not written down."""
SET_BY_CODE = ("DS_ACCELERATOR", "PYTORCH_NVML_BASED_CUDA_CHECK")
"""Not the person's: this package and torch set them as they go."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH")

_overrides: ContextVar[tuple[str, ...] | None] = ContextVar("overrides", default=None)


@contextmanager
def overridden_by(overrides: Sequence[str]) -> Iterator[None]:
    """Runs inside were asked for with ``overrides``: for a process that Hydra did not start."""
    token = _overrides.set(tuple(overrides))
    try:
        yield
    finally:
        _overrides.reset(token)


def overrides() -> tuple[str, ...] | None:
    """What the person typed, with the companions that were filled in; None where nobody knows."""
    from hydra.core.hydra_config import HydraConfig  # only to ask whether Hydra is running

    return tuple(HydraConfig.get().overrides.task) if HydraConfig.initialized() else _overrides.get()


def write(folder: Path, corpus: Corpus) -> list[str]:
    """Write down where this run happens; return how that differs from where it began, if it goes on with one."""
    found = environment(corpus)
    before = read(folder)
    changed = _git("diff", "HEAD", "--binary") if found["changed"] else None
    (folder / CHANGES).unlink(missing_ok=True)
    if changed:
        write_atomically(folder / CHANGES, changed)
    write_atomically(folder / LOCK, "".join(f"{name}=={number}\n" for name, number in found["packages"].items()))
    write_atomically(folder / ENVIRONMENT, json.dumps(found, indent=2) + "\n")
    return differences(before, found) if before else []


def remember() -> None:
    """Look at the checkout and the packages now: for a process whose children run the code as it has been imported here."""
    commit(), versions(), packages(), _changes()


def read(folder: Path) -> dict[str, Any]:
    """What ``write`` wrote; empty if there is none."""
    try:
        content = json.loads((folder / ENVIRONMENT).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def environment(corpus: Corpus) -> dict[str, Any]:
    """Code, libraries, machine and data of this process."""
    return {
        "commit": commit(),
        **_changes(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        FOLDER: str(Path.cwd()),
        "device": device(),
        "threads": torch.get_num_threads(),
        "variables": variables(),
        "data_digest": corpus.digest,
        "data": corpus.report,
        "leaked": corpus.leaked(),
        "packages": packages(),
    }


def _changes() -> dict[str, Any]:
    """How the checkout differs from its commit."""
    diff = _git("diff", "HEAD", "--binary") or ""
    return {
        "changed": (_git("diff", "HEAD", "--name-only") or "").splitlines(),
        "changes_digest": hashlib.sha256(diff.encode()).hexdigest() if diff else "",
        "untracked": (_git("ls-files", "--others", "--exclude-standard") or "").splitlines(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, a line each, as `what: before → now`."""
    found = []
    for key in ("commit", "changes_digest", "python", "platform", "device", "threads", "data_digest"):
        if before.get(key) != now.get(key):
            found.append(f"{key}: {_told(before.get(key))} → {_told(now.get(key))}")
    for group in ("variables", "packages"):
        old, new = before.get(group, {}), now.get(group, {})
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                found.append(f"{name}: {_told(old.get(name))} → {_told(new.get(name))}")
    return found


def device() -> str:
    """The name of the device that computes."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def variables() -> dict[str, str]:
    """The environment variables that can change a run; none that may hold a secret."""
    wanted = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES) and name not in SET_BY_CODE}
    return {name: wanted[name] for name in sorted(wanted) if not any(word in name.upper() for word in SECRET)}


@lru_cache
def packages() -> dict[str, str]:
    """Every installed package with its version, as a lock."""
    found = {each.metadata["Name"]: each.version for each in distributions(path=sys.path) if each.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


@lru_cache
def commit() -> str | None:
    """The checkout's commit, with `+` behind it where files differ from it; None outside a checkout."""
    head, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "-uno")
    return None if head is None or changed is None else head.strip() + ("+" if changed.strip() else "")


@lru_cache
def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache
def _git(*arguments: str) -> str | None:
    """What git says of the checkout this code is in; None outside one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        said = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.decode(errors="replace")


def _told(value: object) -> str:
    return "none" if value in (None, "") else str(value)
