"""Runs that wandb kept offline: where they are, who owns them, and which steps they hold."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rlhf.result import Result
from rlhf.runs import folder_of, run_of, usual
from rlhf.tracking import wandb_file

OFFLINE = "offline-run-"
"""How the folder of a session begins that was kept offline."""
SYNCED = ".synced"
"""What wandb adds to the name of a file for the one that says it was sent."""
TRIALS, PARENTS = "trials", "parents"


@dataclass(frozen=True)
class Session:
    """The file of one session of a run; a run that was resumed has several."""

    path: Path

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.stem.removeprefix("run-")

    @property
    def owner(self) -> Path:
        """The folder of the run or the study."""
        return self.path.parents[2]

    @property
    def is_sent(self) -> bool:
        """Whether it is marked as sent, by wandb or by ``mark``."""
        return self._mark.exists()

    @property
    def _mark(self) -> Path:
        return self.path.with_name(self.path.name + SYNCED)

    def mark(self) -> None:
        """Mark it as sent."""
        self._mark.touch()


@dataclass(frozen=True)
class Content:
    """What is in the file of a session."""

    entity: str
    """Whose it is; empty: of whoever sends it."""
    project: str
    steps: list[int]
    """Of its rows of history, in their order."""


def sessions(words: Sequence[str]) -> list[list[Session]]:
    """The sessions of each run in the folders ``words`` (none: where outputs usually are), the earliest first.

    A word may be any folder, a run or a study by its name, or the folder of a single session. With a study come the runs of
    its trials and their parents.

    Raises:
        Fault: a word means nothing.
    """
    places = words or [str(usual().parent)]
    found = {Session(path.resolve()) for word in places for path in _files(word, named=bool(words))}
    ordered = sorted(found, key=lambda each: (str(each.owner), each.run, each.path.parent.name))
    return [list(each) for _, each in groupby(ordered, key=lambda session: (session.owner, session.run))]


def read(session: Session) -> Content | None:
    """What is in the file; None if that is no run."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # takes seconds to import

    entity, project, steps = "", "", []
    for raw in wandb_file.records(session.path.read_bytes()):
        record = Record()
        record.ParseFromString(raw)
        match record.WhichOneof("record_type"):
            case "run":
                entity, project = record.run.entity, record.run.project
            case "history":
                steps.append(record.history.step.num)
    return Content(entity, project, steps) if project else None


def without_steps(session: Session, until: int, folder: Path) -> Session:
    """A copy of the session in ``folder``, without the rows of history up to step ``until``."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # as above

    def kept(content: bytes) -> Iterator[bytes]:
        for raw in wandb_file.records(content):
            record = Record()
            record.ParseFromString(raw)
            if record.WhichOneof("record_type") != "history" or record.history.step.num > until:
                yield raw

    content = session.path.read_bytes()
    copy = Session(folder / session.path.parent.name / session.path.name)
    copy.path.parent.mkdir(parents=True)
    copy.path.write_bytes(wandb_file.packed(content, kept(content)))
    (copy.path.parent / "files").symlink_to(session.path.parent / "files")  # tables and the like
    return copy


def study_folder(word: str) -> Path | None:
    """The folder of the study that ``word`` means, if it means one."""
    places = (Path(word), usual().parent / "studies" / word)
    return next((each for each in places if (each / TRIALS).is_dir()), None)


def _files(word: str, named: bool) -> Iterable[Path]:
    folder = study_folder(word) or Path(word)
    if not folder.is_dir():
        if not named:
            return []
        folder = folder_of(word)
    if folder.resolve().name.startswith(OFFLINE):
        return folder.glob("run-*.wandb")
    found = list(folder.rglob(f"{OFFLINE}*/run-*.wandb"))
    if (folder / TRIALS).is_dir():
        for run in _runs(folder):
            found += run.rglob(f"{OFFLINE}*/run-*.wandb")
    return found


def _runs(study: Path) -> Iterator[Path]:
    """The folders of the runs of a study's trials and of their parents."""
    ends = [
        *study.glob(f"{TRIALS}/*/result.json"),
        *study.glob(f"{TRIALS}/*/*/result.json"),
        *study.glob(f"{PARENTS}/*/result.json"),
    ]
    for path in ends:
        result = Result.read(path)
        if result is not None and (run := run_of(result, study)) is not None:
            yield run
