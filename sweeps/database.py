"""The database of a study, which may be away for a while: what is asked of it waits until it is back, for a bounded time."""

import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import DBAPIError

from rlhf.fault import Fault

LOCK_SECONDS = 60
AWAY_SECONDS = 120.0
"""For which a database that is away is waited for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""In seconds, between two attempts; each pause is twice the last."""
POLL_SECONDS = 0.05
BACK = "the same command goes on when it is back"


class Away(Fault):
    """The database is gone, or has been away for too long."""


class GivenUp(Away):
    """The database is away, and nobody wishes to wait for it."""


def connected(url: str, name: str, patient: Callable[[], bool]) -> BaseStorage:
    """The storage at ``url``, which faults call ``name``.

    Each call that finds it away is made again, and raises ``Away`` once it has been away for ``AWAY_SECONDS``; ``GivenUp`` as
    soon as ``patient`` says no. Each is a transaction, so that one that failed has left nothing behind.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it is away now.
    """
    local = url.startswith("sqlite:")
    driven = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)  # whichever driver SQLAlchemy would take by itself
    kept = get_storage(RDBStorage(driven, engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}} if local else None))
    patience = _Patience(name, Path(url.removeprefix("sqlite:///")) if local else None, patient)
    calls = {call: staticmethod(partial(patience, getattr(kept, call))) for call in BaseStorage.__abstractmethods__}
    return cast(BaseStorage, type("PatientStorage", (BaseStorage,), calls)())


class _Patience:
    """Makes calls of one database, from whichever thread."""

    def __init__(self, name: str, file: Path | None, patient: Callable[[], bool]) -> None:
        self._name, self._file, self._patient = name, file, patient
        self._inode = _inode(file)
        self._away_since: float | None = None

    def __call__(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        pause = FIRST_PAUSE
        while True:
            try:
                found = call(*arguments, **named)
            except (StorageInternalError, DBAPIError) as error:
                self._judge(error)
                self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._away_since = None
                return found

    def _judge(self, error: Exception) -> None:
        if _inode(self._file) != self._inode:
            fix = "put it back and the same command goes on; without it the study begins anew, with the runs that have finished"
            raise Away(f"{self._name}: was removed while the study ran; {fix}") from error
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        if not self._patient():
            raise GivenUp(f"{self._name}: away when the study was stopped ({reason}); {BACK}") from error
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            print(f"{self._name}: away, waiting up to {AWAY_SECONDS:.0f} s for it ({reason})", file=sys.stderr, flush=True)
        elif now - self._away_since > AWAY_SECONDS:
            raise Away(f"{self._name}: away for more than {AWAY_SECONDS:.0f} s ({reason}); {BACK}") from error

    def _pause(self, seconds: float) -> None:
        """In small pieces: a handler of signals can change what ``patient`` says, but wake nobody without a lock."""
        end = time.monotonic() + seconds
        while self._patient() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))


def _inode(file: Path | None) -> int | None:
    """What tells a file from another one that took its place; None where there is none."""
    try:
        return None if file is None else os.stat(file).st_ino
    except OSError:
        return None
