"""Bugs of DPO: each function puts one back until its monkeypatch is undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rlhf.stages.policies import Policies

Patch = pytest.MonkeyPatch


def reference_shared(patch: Patch) -> None:
    @contextmanager
    def shared(self: Policies) -> Iterator[Any]:
        yield self.policy

    patch.setattr(Policies, "reference", shared)
