"""What all tests share: no network, no accounts, and the command as a user types it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rlhf

ROOT = Path(rlhf.__file__).parent.parent
OFFLINE = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.update(OFFLINE)

Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Bits hang on how many threads a sum is taken by, and so must not on how many cores the machine has."""
    import torch  # not for tests that do without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Ended]:
    """Run `python -m rlhf` with the arguments given, in an empty folder, with further environment variables if wanted."""

    def run(*arguments: str, **environment: str) -> Ended:
        return subprocess.run(
            [sys.executable, "-m", "rlhf", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
