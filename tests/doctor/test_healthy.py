"""``doctor`` has next to nothing to say of runs that learn."""

from pathlib import Path

import pytest

from rlhf.doctor.finding import Severity
from tests.doctor.healthy import judged, train


@pytest.mark.slow
def test_runs_that_learn_have_no_error_and_at_most_one_warning(tmp_path: Path) -> None:
    for folder in train(tmp_path, seed=1).values():
        found, told = judged(folder)
        assert len(found) <= 1 and told == [], (folder.name, found, told)
        assert all(each.severity is Severity.warning for each in found), (folder.name, found)
