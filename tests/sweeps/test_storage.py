"""A study in a database that others reach too: one sweeper at a time, and PostgreSQL as well as SQLite."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import OperationalError

from sweeps import database, holder

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]
GRID = "sft.learning_rate=1e-3,1e-4,1e30"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "SIGN_SECONDS", 0.05)
    monkeypatch.setattr(holder, "SILENT_SECONDS", 1.0)


@dataclass
class Server:
    """A PostgreSQL server: its address, and what controls it."""

    url: str
    call: Callable[..., None]
    settings: str


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[Server]:
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
            yield Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", call, settings)
        finally:
            call("pg_ctl", "-m", "immediate", "stop")


def test_a_study_on_postgresql(postgresql: Server, run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, quick: None) -> None:
    database = postgresql.url
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


def test_a_server_that_is_away_for_a_while_is_waited_for(
    postgresql: Server, run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def restart() -> None:
        while not (tmp_path / "ran").exists():
            time.sleep(0.01)
        postgresql.call("pg_ctl", "-m", "fast", "-w", "stop")
        (tmp_path / "spare").touch()  # the trial ends now
        while not (tmp_path / "studies/s/trials/0000/result.json").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        postgresql.call("pg_ctl", "-o", postgresql.settings, "-l", "/dev/null", "-w", "start")

    thread = threading.Thread(target=restart)
    thread.start()
    assert run_study("sft.learning_rate=1e6,1e-3", "sweep.parallel=1", f"sweep.storage={postgresql.url}") == 0
    thread.join()
    assert [row["status"] for row in rows()] == ["finished"] * 2
    said = capsys.readouterr().err
    assert "away, waiting up to 120 s for it" in said and "Traceback" not in said


def test_a_call_is_made_again_until_the_database_has_been_away_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = database.connected(f"sqlite:///{tmp_path / 'study.db'}", "study.db", lambda: True)
    answers, failures = RDBStorage.get_all_studies, iter([True, True, False])

    def refuse(storage: RDBStorage) -> object:
        if next(failures, True):
            raise StorageInternalError("no") from OperationalError("select", {}, Exception("refused"))
        return answers(storage)

    monkeypatch.setattr(RDBStorage, "get_all_studies", refuse)
    monkeypatch.setattr(database, "FIRST_PAUSE", 0.01)
    assert kept.get_all_studies() == []
    assert capsys.readouterr().err.splitlines() == ["study.db: away, waiting up to 120 s for it ((builtins.Exception) refused)"]
    monkeypatch.setattr(database, "AWAY_SECONDS", 0.02)
    with pytest.raises(database.Away, match="study.db: away for more than 0 s .* the same command goes on when it is back"):
        kept.get_all_studies()


class Refusal:
    """What a database does that is away for ever."""

    def __init__(self) -> None:
        self.felt = threading.Event()
        """By the study itself."""

    def refuse(self, *arguments: object, **named: object) -> object:
        if threading.current_thread() is threading.main_thread():
            self.felt.set()
        raise StorageInternalError("no") from OperationalError("select", {}, Exception("refused"))


def test_a_pause_ends_with_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = iter([True, True, True])
    kept = database.connected(f"sqlite:///{tmp_path / 'study.db'}", "study.db", lambda: next(patience, False))
    assert kept.get_all_studies() == []
    monkeypatch.setattr(RDBStorage, "get_all_studies", Refusal().refuse)
    monkeypatch.setattr(database, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(database, "AWAY_SECONDS", 1.0)
    with pytest.raises(database.GivenUp, match="study.db: away when the study was stopped .* goes on when it is back"):
        kept.get_all_studies()


def test_ctrl_c_while_the_database_is_away_ends_the_study(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing more is waited for, neither by the study nor by its signs of life; the other run saves what it has."""
    url, gone = f"sqlite:///{tmp_path / 'shared.db'}", Refusal()
    command = ("sft.learning_rate=1e6", "sft.weight_decay=0,0.1", "sweep.parallel=2", f"sweep.storage={url}")
    refused = pytest.MonkeyPatch()

    def stop() -> None:
        while len(ran()) < 2:
            time.sleep(0.01)
        for call in BaseStorage.__abstractmethods__:
            refused.setattr(RDBStorage, call, gone.refuse)
        (tmp_path / "studies/s/trials/0000/spare").touch()  # this one ends
        gone.felt.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    try:
        assert run_study(*command) == 75
    finally:
        refused.undo()
    said = capsys.readouterr()
    assert "stopping: 1 running, they save what they have" in said.out
    first, last = said.err.splitlines()
    assert "away, waiting up to 120 s for it" in first and f"{url}: away when the study was stopped" in last
    results = [json.loads((tmp_path / f"studies/s/trials/{number}/result.json").read_text()) for number in ("0000", "0001")]
    assert [each["status"] for each in results] == ["finished", "stopped"]
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["finished"] * 2 and len(ran()) == 3


def test_a_study_whose_database_is_gone_ends_in_an_orderly_way(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other run is stopped as by Ctrl-C, what came out is kept, and the study goes on when the database is back."""
    kept, moved = tmp_path / "studies/s/study.db", tmp_path / "moved"

    def remove() -> None:
        while len(ran()) < 2:
            time.sleep(0.01)
        kept.rename(moved)
        (tmp_path / "studies/s/trials/0000/spare").touch()  # this one ends

    threading.Thread(target=remove, daemon=True).start()
    command = ("sft.learning_rate=1e6", "sft.weight_decay=0,0.1", "sweep.parallel=2")
    assert run_study(*command) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "was removed while the study ran; put it back and the same command goes on" in said.err
    assert "stopping: 1 running, they save what they have" in said.out
    moved.rename(kept)
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["finished"] * 2


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


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that a script puts in the background ignores SIGINT, as the tests may be; the command sets its own handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_sweeper_that_was_taken_for_dead_ends(quick: None, interruptible: None) -> None:
    """It finds another's note where its own was, and interrupts its process as Ctrl-C would."""
    written: list[holder.Note | None] = [None]
    taken: list[holder.Note] = []  # apart, since a sign of its own may be written after the other's
    said: list[str] = []
    mine = holder.Holder(lambda: (taken or written)[-1], written.append, said.append)
    with pytest.raises(KeyboardInterrupt):
        taken.append({"holder": "other", "host": "elsewhere", "process": 7, "signs": 1})
        for _ in range(600):  # a wait in one piece would hear it at its end
            threading.Event().wait(0.1)
    mine.release()
    assert written[-1] is not None and said == ["this study was taken over; ending here (process 7 on elsewhere)"]


def test_two_studies_of_one_name_in_one_database_are_not_mixed(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    """Whose it is goes by what lies in the folder: one that was moved goes on."""
    shared, other = f"sweep.storage=sqlite:///{tmp_path / 'shared.db'}", tmp_path / "other"
    assert run_study(GRID, shared) == 0
    capsys.readouterr()
    assert run_study("sft.learning_rate=5e-3,6e-3", shared, f"paths.outputs={other}") == 2
    said = capsys.readouterr().err
    assert f"has a study s already, that of {tmp_path}/studies/s on " in said and "choose another sweep.name, or move" in said
    assert not [*other.rglob("trials")] and not (other / "ran").exists()
    shutil.rmtree(other)
    shutil.copytree(tmp_path / "studies", other / "studies")
    shutil.rmtree(tmp_path / "studies")
    assert run_study(GRID.replace("1e30", "2e-4"), shared, f"paths.outputs={other}") == 0
    assert (other / "ran").read_text().split() == ["0.0002"]
    noted = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'shared.db'}").user_attrs
    assert noted["owner"]["folder"] == f"{other}/studies/s" and noted["holder"] is None
    shutil.rmtree(other / "studies")  # deleted, it begins anew where it was
    (other / "ran").unlink()
    assert run_study("sft.learning_rate=1e-3,3e-4", shared, f"paths.outputs={other}", "sweep.accept_changes=true") == 0
    assert sorted((other / "ran").read_text().split()) == ["0.0003", "0.001"]
