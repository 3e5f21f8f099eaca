"""Warm servers: one with nothing imported for what forking itself promises, and where it must be a real one."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers import pool
from launchers.warm import Warm

HERE = str(Path(__file__).parent)


def wait_for(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    while not holds():
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def variables(**more: str) -> dict[str, str]:
    """An environment in which the modules beside this file can be imported."""
    found = pool.environment()
    return {**found, "PYTHONPATH": os.pathsep.join((found["PYTHONPATH"], HERE)), **more}


@pytest.fixture
def light() -> Iterator[Warm]:
    """A server that has imported nothing but Python's own."""
    with Warm(variables(), preload=()) as warm:
        wait_for(warm.settled)
        assert warm.usable
        yield warm
