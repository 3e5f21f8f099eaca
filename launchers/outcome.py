"""What the end of a trial's process amounts to: always a typed ``Result``, also when the trial could not write one."""

import re
import signal
from dataclasses import replace
from pathlib import Path

from launchers.pool import Cause, End
from rlhf.config import Run
from rlhf.price import per_second
from rlhf.result import Result, Status

LOG_TAIL_BYTES, LOG_TAIL_LINES = 16384, 20
_OWN_FAULT = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


def result_of(end: End, run: Run) -> Result:
    """The result the trial wrote, or one told from its exit.

    Past its timeout: `failed/timeout`. Stopped by the user: `stopped/interrupted`. Killed from outside: `lost`, with the
    signal as the reason. More GPUs than the machine has: `failed/fault`. Anything else that left no result, a crash of
    native code included: `failed/crash`, with the last lines of its log.
    """
    written = read(end.job.folder)
    if end.cause is Cause.timeout and (written is None or written.status is not Status.finished):
        message = f"ended after {end.seconds:.0f} s; its limit is sweep.trial_timeout={end.job.timeout:g} seconds"
        return replace(written or _without_result(run, end.seconds), status=Status.failed, reason="timeout", message=message)
    if written is not None:
        return written
    blank = _without_result(run, end.seconds)
    if end.cause is Cause.interrupt:
        return replace(blank, status=Status.stopped, reason="interrupted", message="stopped before it could write a result")
    if end.code is None:
        reason = "fault" if end.cause is Cause.fault else "crash"
        return replace(blank, status=Status.failed, reason=reason, message=end.error)
    if end.code < 0 and signal.Signals(-end.code) not in _OWN_FAULT:
        name = signal.Signals(-end.code).name
        hint = "; if not by you, then often by the kernel when the machine's memory runs out" if name == "SIGKILL" else ""
        return replace(blank, status=Status.lost, reason=name, message=f"killed from outside with {name}{hint}")
    how = f"died of {signal.Signals(-end.code).name}" if end.code < 0 else f"ended with exit code {end.code} and no result"
    return replace(blank, status=Status.failed, reason="crash", message=log_tail(end.job.folder / "log.txt") or how)


def read(folder: Path) -> Result | None:
    """The ``result.json`` of a trial folder; null if there is none that can be read."""
    return Result.read(folder / "result.json")


def lost(run: Run, seconds: float) -> Result:
    """The result of a trial whose sweeper died with it, after it had been at work for so long."""
    return replace(_without_result(run, seconds), reason="sweeper", message="was running when the sweeper died")


def log_tail(log: Path) -> str:
    """The last line that says something, then the last lines in order, without control characters; empty without a log."""
    try:
        with log.open("rb") as content:
            content.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            text = content.read().decode(errors="replace")
    except OSError:
        return ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", line).rstrip() for line in re.split(r"\r\n|\n|\r", text)]
    lines = [line for line in lines if line][-LOG_TAIL_LINES:]
    return "\n".join([lines[-1], *lines]) if lines else ""


def _without_result(run: Run, seconds: float) -> Result:
    """What is known of a run that wrote nothing; it costs what its place was taken for."""
    price = per_second(run.hardware.usd_per_hour, run.ranks)
    cost = None if price is None else seconds * price
    return Result(Status.lost, run.stage, run.model.name, "", "", seconds=seconds, cost_usd=cost, seed=run.seed)
