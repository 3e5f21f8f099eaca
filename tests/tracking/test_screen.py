"""The lines of a run while it goes on."""

from types import SimpleNamespace

import pytest

from rlhf.price import per_second
from rlhf.tracking import screen
from rlhf.tracking.screen import Screen


def test_the_cost_is_of_all_ranks_and_all_sessions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 900.0])
    monkeypatch.setattr(screen, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    shown = Screen("run", "sft", 40, 10, per_second(2.0, ranks=8), seconds_before=1800.0)
    shown.progress(20, {"loss": 1.5}, always=True)
    assert capsys.readouterr().out == "run  20/40  15:00  left 30:00  $12.00  loss 1.5\n"


def test_without_a_price_there_is_no_cost(capsys: pytest.CaptureFixture[str]) -> None:
    Screen("run", "sft", 4, 0, per_second(None, ranks=8), 0.0).progress(2, {}, always=True)
    assert "$" not in capsys.readouterr().out
