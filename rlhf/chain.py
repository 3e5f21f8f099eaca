"""A stage and everything it stands on: parents are found by signature, trained if they are missing, or refused."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf import artifact, closing, lineage, selection, signature
from rlhf.artifact import Artifact
from rlhf.closing import Ended
from rlhf.config import MissingParents, RewardKind, Run
from rlhf.data import corpus as data
from rlhf.data import demand
from rlhf.data.corpus import Corpus
from rlhf.engine import placement
from rlhf.fault import Fault
from rlhf.identity import Identity
from rlhf.lineage import JUDGED, ONLINE
from rlhf.report import page as report
from rlhf.result import Result, Status
from rlhf.rewards import own, ready
from rlhf.run import NO_RESULT, claimed, finished, run_stage
from rlhf.sealed import is_sealed
from rlhf.shelf import Shelf
from rlhf.stages.table import TABLE
from rlhf.stopping import StopRequest
from rlhf.tracking.screen import warn


def main(run: Run) -> int:
    """Run the stage and its missing parents, print the table of the whole chain, and return the exit code."""
    results: list[Ended] = []
    try:
        result = execute(run, results.append)
    except Fault as error:
        from rlhf.command_line import EXIT_FAULTS, report_faults

        if results:  # a parent has been trained and stays; only what came after it could not start
            closing.table(results)
            warn(f"the chain ends here: {error}")
            return EXIT_FAULTS
        return report_faults([str(error)])
    closing.table(results)
    closing.end(results[-1], run)
    return result.exit_code


def execute(
    run: Run,
    ended: Callable[[Ended], None] = lambda stage: None,
    trial: Path | None = None,
    pages: bool = True,
) -> Result:
    """Run ``run`` after its parents and return its typed result; ``ended`` hears of every stage once, as it ends.

    A parent that does not finish ends the chain with its status and reason. ``trial`` is the folder in which a study
    leaves its verdicts, if it may end the last stage early; ``pages`` is whether each run gets its ``report.html`` here.

    Raises:
        Fault: something the user named cannot be used; no folder is left behind for it.
    """
    for line in load_corpus(run).report:
        print(f"  {line}")
    foresee(run, links(run))
    told: set[str] = set()

    def tell(stage: Ended) -> None:
        if stage.result.result_signature not in told:
            told.add(stage.result.result_signature)
            ended(stage)

    with StopRequest() as stop:
        return _execute(run, run.stage, stop, tell, trial, pages)


def _execute(
    run: Run, called: str, stop: StopRequest, ended: Callable[[Ended], None], trial: Path | None, pages: bool
) -> Result:
    stage = lineage.stage_of(called)
    identity = identify(run, stage)
    done = None if run.fresh else finished(identity)
    parents: dict[str, Artifact] = {}
    for name in lineage.parents(run, stage):
        parent_stage, found = lineage.stage_of(name), _find(run, name, Shelf())
        if found is None and done is None:
            if run.parents.missing is MissingParents.require:
                made = lineage.as_parent(run, name)
                how = f"stage={parent_stage}" + f" rm.member={made.rm.member}" * (made is not run)
                raise Fault(
                    f"parents.missing=require: stage={stage} needs a {TABLE[parent_stage].makes} from {how}, and none with "
                    f"signature {identity.parents[name]} is in {run.paths.outputs}; run {how} first or set {_key(name)}"
                )
            made = replace(lineage.as_parent(run, name), fresh=False)
            result = _execute(made, name, stop, ended, None, pages)
            if result.status is not Status.finished:
                return result
            found = _find(run, name, Shelf())
            assert found is not None
        elif found is not None and lineage.given(run, name) is None:
            told = Result.read(found.path.parent / "result.json")
            if told is not None:
                ended(Ended(name, told, True))  # so that the closing table shows the whole chain
        if found is not None:
            parents[name] = found
    try:
        with claimed(identity.folder):
            done = None if run.fresh else finished(identity)
            result = done or run_stage(run, identity, parents, load_corpus(run), stop, trial)
            if done is None and pages:
                report.write_or_warn(identity.folder)
    except Fault:
        if identity.folder.is_dir() and {each.name for each in identity.folder.iterdir()} <= NO_RESULT:
            shutil.rmtree(identity.folder)  # nothing was started, so nothing is left behind
        raise
    ended(Ended(called, result, done is not None))
    return result


def identify(run: Run, stage: str, shelf: Shelf | None = None) -> Identity:
    """Name the run of ``stage`` and the results it stands on; reads the data, trains nothing.

    Folders that the user has brought are looked into anew, unless they are on the ``shelf``.
    """
    kind, shelf = TABLE[stage], shelf or Shelf()
    parents = {name: _parent_signature(run, name, shelf) for name in lineage.parents(run, stage)}
    others = selection.signature(run, stage)
    if "reward" in kind.reads and run.reward.kind is RewardKind.file:
        assert run.reward.path is not None
        others["reward"] = own.digest(run.reward.path)
    digest = load_corpus(run).digest
    result = signature.result_signature(run, stage, kind.reads, parents | others, digest)
    run_signature = signature.run_signature(run, stage, kind.reads, result)
    folder = _runs(run) / f"{stage}-{run.model.name}-{run_signature}"
    return Identity(stage, result, run_signature, parents, folder, digest)


@dataclass(frozen=True)
class Link:
    """One stage of a chain: its names, the names of those before it that it starts from, and whether it need not be run."""

    identity: Identity
    parents: list[str]
    finished: bool
    name: str
    """What it is to the stage that starts from it (``lineage.parents``)."""


def links(run: Run, shelf: Shelf | None = None) -> list[Link]:
    """The stages ``run`` consists of, parents first, its own last; reads the data, trains nothing.

    Parents that the user has given are left out. A parent is finished if any run has made the same result. The folders of
    parents are checked anew, unless they are on the ``shelf``.
    """
    shelf = shelf or Shelf()
    found = []
    for name, made in lineage.line(run, run.stage):
        stage = lineage.stage_of(name)
        identity = identify(made, stage, shelf)
        own = name == run.stage
        done = not run.fresh and finished(identity) if own else _find(run, name, shelf)
        parents = [each for each in lineage.parents(made, stage) if lineage.given(made, each) is None]
        found.append(Link(identity, parents, bool(done), name))
    return found


def foresee(run: Run, chain: list[Link]) -> None:
    """Look, before hours are spent on the first stage of ``chain``, whether data, devices and reward will do for all.

    Raises:
        Fault: they will not.
    """
    for link in chain:
        if not link.finished:
            demand.see(run, link.identity.stage, load_corpus(run))
            if (name := link.identity.stage) in (*JUDGED, *ONLINE):
                placement.look(getattr(run, name).reference_device, f"{name}.reference_device=")
            if name in ONLINE:
                placement.look(getattr(run, name).reward_device, f"{name}.reward_device=")
                ready.see(run.reward, load_corpus(run))


_corpora: dict[tuple[str, int, str | None], Corpus] = {}


def load_corpus(run: Run) -> Corpus:
    """The run's data, read once a process: a chain of stages shares it."""
    key = (repr(run.data), run.seed, run.paths.cache)
    if key not in _corpora:
        _corpora[key] = data.load(run.data, run.seed, run.paths.cache)
    return _corpora[key]


def _runs(run: Run) -> Path:
    return Path(run.paths.outputs) / "runs"


def _key(name: str) -> str:
    """The setting by which a person brings the parent ``name``."""
    return "parents.rm_members" if "." in name else f"parents.{name}"


def _parent_signature(run: Run, name: str, shelf: Shelf) -> str:
    if (brought := own_parent(run, name, shelf)) is not None:
        return brought.signature
    return identify(lineage.as_parent(run, name), lineage.stage_of(name), shelf).result_signature


def own_parent(run: Run, name: str, shelf: Shelf | None = None) -> Artifact | None:
    """The parent that the user has brought (`parents.<name>`), checked if it is an artifact; None: found or trained.

    Raises:
        Fault: it is broken or of another kind.
    """
    given, kind, shelf = lineage.given(run, name), TABLE[lineage.stage_of(name)].makes, shelf or Shelf()
    if given is None:
        return None
    folder = Path(given)
    if is_sealed(folder):
        return artifact.load(folder, kind, _key(name), shelf.open)
    return Artifact(folder, kind, shelf.digest(folder) if folder.is_dir() else f"hub:{given}")


def _find(run: Run, name: str, shelf: Shelf) -> Artifact | None:
    """The parent ``name``, brought or among the runs; None if there is none that is whole."""
    if (brought := own_parent(run, name, shelf)) is not None:
        return brought
    stage = lineage.stage_of(name)
    for path in artifact.find(_runs(run), _parent_signature(run, name, shelf)):
        try:
            return artifact.load(path, TABLE[stage].makes, f"stage={stage}", shelf.open)
        except Fault as error:
            warn(f"{error}; it is passed over")
    return None
