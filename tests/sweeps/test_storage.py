"""A study in a database that others reach too: one sweeper at a time, and PostgreSQL as well as SQLite."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from sweeps import holder

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]
GRID = "sft.learning_rate=1e-3,1e-4,1e30"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "SIGN_SECONDS", 0.05)
    monkeypatch.setattr(holder, "SILENT_SECONDS", 1.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL server of its own on loopback; servers refuse to be root, so then it belongs to `postgres`."""
    found = shutil.which("initdb")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or ([Path(found)] if found else [])
    if not binaries:
        pytest.skip("PostgreSQL's initdb is not installed")
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pg") as name, socket.socket() as free:
        folder = Path(name)
        if prefix:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()

        def call(program: str, *arguments: str) -> None:
            command = [*prefix, str(binaries[-1].parent / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

        call("initdb", "-A", "trust", "-U", "postgres", "-N")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        call("pg_ctl", "-o", settings, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


def test_a_study_on_postgresql(database: str, run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, quick: None) -> None:
    assert run_study(GRID, f"sweep.storage={database}") == 0
    assert [(row["status"], row["reason"]) for row in rows()] == [("finished", ""), ("finished", ""), ("failed", "nan")]
    assert run_study(GRID.replace("1e30", "2e-4"), f"sweep.storage={database}") == 0  # nothing runs twice
    assert sorted(ran()) == [1e-4, 2e-4, 1e-3, 1e30] and len(rows()) == 4
    kept = RDBStorage(database.replace("postgresql:", "postgresql+psycopg:"))
    grown = optuna.load_study(study_name="s#2", storage=kept)
    assert [trial.state.name for trial in grown.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert (
        optuna.load_study(study_name="s", storage=kept).user_attrs["holder"] is None
        and not (tmp_path / "studies/s/study.db").exists()
    )


@pytest.fixture
def held(run_study: Study, tmp_path: Path, quick: None) -> tuple[list[str], optuna.Study]:
    """A study that a sweeper on another machine has, by its note."""
    words = [GRID, f"sweep.storage=sqlite:///{tmp_path / 'shared.db'}"]
    assert run_study(*words) == 0
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'shared.db'}")
    study.set_user_attr("holder", {"holder": "other", "host": "elsewhere", "process": 1, "signs": 1})
    return words, study


def test_a_living_sweeper_elsewhere_keeps_the_study(
    held: tuple[list[str], optuna.Study], run_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    words, study = held
    ended = threading.Event()

    def live() -> None:
        signs = 1
        while not ended.wait(0.1):
            signs += 1
            study.set_user_attr("holder", {"holder": "other", "host": "elsewhere", "process": 1, "signs": signs})

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert run_study(*words, "sft.weight_decay=0.5") == 2
    finally:
        ended.set()
        thread.join()
    assert "another sweeper runs this study (process 1 on elsewhere); wait for it, or choose" in capsys.readouterr().err
    assert study.user_attrs["holder"]["holder"] == "other"


def test_a_silent_sweeper_elsewhere_is_taken_over(held: tuple[list[str], optuna.Study], run_study: Study, ran: Ran) -> None:
    words, study = held
    assert run_study("sft.learning_rate=1e-3,3e-4", words[1]) == 0
    assert ran()[-1] == 3e-4 and study.user_attrs["holder"] is None


def test_a_dead_one_of_this_machine_is_not_waited_for(
    held: tuple[list[str], optuna.Study], run_study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    words, study = held
    ended = subprocess.Popen(["true"])
    ended.wait()
    study.set_user_attr("holder", {"holder": "other", "host": socket.gethostname(), "process": ended.pid, "signs": 1})
    assert run_study(*words) == 0
    assert "waiting" not in capsys.readouterr().err


def test_a_sweeper_that_was_taken_for_dead_ends(quick: None) -> None:
    """It finds another's note where its own was, and interrupts its process as Ctrl-C would."""
    noted: list[holder.Note | None] = [None]
    said: list[str] = []
    mine = holder.Holder(lambda: noted[0], lambda note: noted.__setitem__(0, note), said.append)
    other = {"holder": "other", "host": "elsewhere", "process": 7, "signs": 1}
    with pytest.raises(KeyboardInterrupt):
        noted[0] = other
        threading.Event().wait(5)
    mine.release()
    assert noted[0] == other and said == ["this study was taken over; ending here (process 7 on elsewhere)"]
