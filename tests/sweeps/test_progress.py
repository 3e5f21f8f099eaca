"""The lines a study prints while it runs."""

from rlhf.result import Objective, Result, Status
from sweeps.goal import Goal
from sweeps.progress import Progress
from sweeps.record import Entry

ENTRY = Entry(4, 4, "d", [], {"seed": 4}, "running", "")
LOSS = Goal((Objective("eval/loss", "minimize"),), ())


def test_counts_and_time_left_leave_out_what_was_not_run_here() -> None:
    progress = Progress(10, 3, 2, LOSS)
    assert progress.started(ENTRY) == "[3/10 done, 1 running] 0004 started: seed=4"
    good = Result(Status.finished, "sft", "tiny", "r", "s", metrics={"eval/loss": 2.5})
    said = progress.ended(ENTRY, good, 60.0)
    assert said == "[4/10 done, 0 running] 0004 finished, eval/loss 2.5 in 60 s: seed=4 (about 3 min left)"


def test_a_stopped_trial_is_not_done() -> None:
    progress = Progress(2, 0, 1, LOSS)
    progress.started(ENTRY)
    stopped = Result(Status.stopped, "sft", "tiny", "r", "s", reason="interrupted", message="stopped after 2 of 9\nmore")
    said = progress.ended(ENTRY, stopped, 6.0)
    assert said == "[0/2 done, 0 running] 0004 stopped/interrupted in 6 s: seed=4: stopped after 2 of 9"
