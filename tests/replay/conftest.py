"""Around updates that are computed again."""

import pytest


@pytest.fixture(autouse=True)
def always_one_thread(one_thread: None) -> None:
    """For all tests in this folder."""
