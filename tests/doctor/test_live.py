"""What a run says of itself while it goes on: once, and cheaply."""

from pathlib import Path
from typing import Any

import pytest

from rlhf import chain
from rlhf.doctor.live import FIRST, LATEST, TOLD, Live
from rlhf.report.folder import rows
from rlhf.tracking.tracker import NoTracker
from tests.doctor.breaks import sft
from tests.stages.small import make_run

WELL = {"kind": "train", "signs/ends_learnt": 1.0}
SICK = WELL | {"signs/ends_learnt": 0.0}


def test_a_finding_is_told_once_and_not_again_by_a_session_that_goes_on(tmp_path: Path) -> None:
    live = Live(tmp_path, "sft", 0)
    said = [[each.name for each in live.look({"round": at, **row})] for at, row in enumerate((WELL, SICK, SICK))]
    live.close()
    assert said == [[], ["end-not-learnt"], []]
    (told,) = rows(tmp_path / TOLD)
    assert (told["round"], told["name"], told["severity"]) == (1, "end-not-learnt", "error")
    later = Live(tmp_path, "sft", 2)
    assert later.look({"round": 3, **SICK}) == []
    later.close()
    anew = Live(tmp_path, "sft", 0)
    assert len(anew.look({"round": 0, **SICK})) == 1
    anew.close()


def test_a_session_that_goes_on_knows_the_rows_before(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 0, "kind": "train", "grad_norm/policy": 0.0}\n')
    live = Live(tmp_path, "sft", 1)
    (found,) = live.look({"round": 2, "kind": "train", "grad_norm/policy": 0.0})  # one row would not show it
    live.close()
    assert found.name == "no-gradient"


def test_a_long_run_is_not_looked_at_whole(tmp_path: Path) -> None:
    live = Live(tmp_path, "sft", 0)
    for at in range(100):
        live.look({"round": at, **WELL})
    live.close()
    assert (len(live._first), len(live._latest)) == (FIRST, LATEST)


def test_a_run_tells_the_screen_and_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alerts: list[tuple[Any, ...]] = []
    monkeypatch.setattr(NoTracker, "alert", lambda self, *told: alerts.append(told))
    sft.end_doubled(monkeypatch)
    result = chain.execute(make_run(tmp_path, "stage=sft", "sft.log_every=1"), pages=False)
    assert [(step, name) for step, name, _ in alerts] == [(1, "end-not-learnt")]
    assert capsys.readouterr().out.count("error: end-not-learnt: signs/ends_learnt is 0 in round 1") == 1
    assert (Path(result.folder) / TOLD).is_file()
