"""Signals as a request: the first one asks, the second one insists, and the old handlers come back."""

import os
import signal

import pytest

from rlhf.stopping import StopRequest


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "preempted")])
def test_the_first_signal_only_asks(number: signal.Signals, reason: str) -> None:
    with StopRequest() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested() and stop.reason == reason
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_the_old_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
