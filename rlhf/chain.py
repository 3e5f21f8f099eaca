"""A stage and everything it stands on: parents are found by signature, trained if they are missing, or refused."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from rlhf import after, artifact, lineage, provenance, selection, signature
from rlhf.artifact import Artifact
from rlhf.config import MissingParents, RewardKind, Run, TrackerKind
from rlhf.data import corpus as data
from rlhf.data import demand
from rlhf.data.corpus import Corpus
from rlhf.engine import placement
from rlhf.fault import Fault
from rlhf.identity import Identity
from rlhf.lineage import JUDGED, ONLINE
from rlhf.report import page as report
from rlhf.report import sources
from rlhf.result import HEADLINES, Result, Status
from rlhf.rewards import own, ready
from rlhf.run import NO_RESULT, claimed, finished, run_stage
from rlhf.runs import CONFIG
from rlhf.sealed import is_sealed
from rlhf.stages.table import TABLE
from rlhf.stopping import StopRequest
from rlhf.tracking.record import KEPT
from rlhf.tracking.screen import warn
from rlhf.visible import visible
from rlhf.watcher import CHECKPOINTS


def main(run: Run) -> int:
    """Run the stage and its missing parents, print the table of the whole chain, and return the exit code."""
    results: list[tuple[Result, bool]] = []
    try:
        result = execute(run, lambda each, reused: results.append((each, reused)))
    except Fault as error:
        from rlhf.command_line import EXIT_FAULTS, report_faults

        if results:  # a parent has been trained and stays; only what came after it could not start
            _print_table(results)
            warn(f"the chain ends here: {error}")
            return EXIT_FAULTS
        return report_faults([str(error)])
    _print_table(results)
    if results[-1][1]:
        _warn_of_other_tracker(result, run)
    _print_end(result, run)
    return result.exit_code


def execute(
    run: Run,
    ended: Callable[[Result, bool], None] = lambda result, reused: None,
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

    def tell(result: Result, reused: bool) -> None:
        if result.result_signature not in told:
            told.add(result.result_signature)
            ended(result, reused)

    with StopRequest() as stop:
        return _execute(run, run.stage, stop, tell, trial, pages)


def _execute(
    run: Run, stage: str, stop: StopRequest, ended: Callable[[Result, bool], None], trial: Path | None, pages: bool
) -> Result:
    identity = identify(run, stage)
    done = None if run.fresh else finished(identity)
    parents: dict[str, Artifact] = {}
    for name in lineage.parents(run, stage):
        parent_stage, found = lineage.stage_of(name), _find(run, name)
        if found is None and done is None:
            if run.parents.missing is MissingParents.require:
                made = lineage.as_parent(run, name)
                how = f"stage={parent_stage}" + f" rm.member={made.rm.member}" * (made is not run)
                raise Fault(
                    f"parents.missing=require: stage={stage} needs a {TABLE[parent_stage].makes} from {how}, and none with "
                    f"signature {identity.parents[name]} is in {run.paths.outputs}; run {how} first or set {_key(name)}"
                )
            made = replace(lineage.as_parent(run, name), fresh=False)
            result = _execute(made, parent_stage, stop, ended, None, pages)
            if result.status is not Status.finished:
                return result
            found = _find(run, name)
            assert found is not None
        elif found is not None and lineage.given(run, name) is None:
            told = Result.read(found.path.parent / "result.json")
            if told is not None:
                ended(told, True)  # so that the closing table shows the whole chain
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
    ended(result, done is not None)
    return result


def identify(run: Run, stage: str) -> Identity:
    """Name the run of ``stage`` and the results it stands on; reads the data, trains nothing."""
    kind = TABLE[stage]
    parents = {name: _parent_signature(run, name) for name in lineage.parents(run, stage)}
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


def links(run: Run) -> list[Link]:
    """The stages ``run`` consists of, parents first, its own last; reads the data, trains nothing.

    Parents that the user has given are left out. A parent is finished if any run has made the same result.
    """
    found = []
    for name, made in lineage.line(run, run.stage):
        stage = lineage.stage_of(name)
        identity = identify(made, stage)
        own = name == run.stage
        done = not run.fresh and finished(identity) if own else _find(run, name)
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


def _parent_signature(run: Run, name: str) -> str:
    given = lineage.given(run, name)
    if given is None:
        return identify(lineage.as_parent(run, name), lineage.stage_of(name)).result_signature
    folder = Path(given)
    if is_sealed(folder):
        return artifact.load(folder, TABLE[lineage.stage_of(name)].makes, _key(name)).signature
    if folder.is_dir():
        digest = hashlib.sha256()
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]
    return f"hub:{given}"


def own_parent(run: Run, name: str) -> Artifact | None:
    """The parent that the user has brought (`parents.<name>`), checked if it is an artifact; None: found or trained.

    Raises:
        Fault: it is broken or of another kind.
    """
    given, kind = lineage.given(run, name), TABLE[lineage.stage_of(name)].makes
    if given is None:
        return None
    if is_sealed(Path(given)):
        return artifact.load(Path(given), kind, _key(name))
    return Artifact(Path(given), kind, _parent_signature(run, name))


def _find(run: Run, name: str) -> Artifact | None:
    """The parent ``name``, brought or among the runs; None if there is none that is whole."""
    if lineage.given(run, name) is not None:
        return own_parent(run, name)
    stage = lineage.stage_of(name)
    for path in artifact.find(_runs(run), _parent_signature(run, name)):
        try:
            return artifact.load(path, TABLE[stage].makes, f"stage={stage}")
        except Fault as error:
            warn(f"{error}; it is passed over")
    return None


def _print_table(results: list[tuple[Result, bool]]) -> None:
    table = Table("stage", "status", "time", "cost", "result")
    for result, reused in results:
        status = "reused" if reused else result.status.name + (f" ({result.reason})" if result.reason else "")
        cost = "unknown" if result.cost_usd is None else f"${result.cost_usd:.2f}"
        shown = [_figure(name, result.metrics) for name in HEADLINES[result.stage] if name in result.metrics]
        shown += sources.lines(result.metrics)
        table.add_row(result.stage, status, f"{result.seconds:.0f} s", cost, "\n".join(shown))
    Console().print(table)
    for result, _ in results:
        if result.status is Status.finished and result.message:
            print(f"stage={result.stage}: {result.message}")


def _figure(name: str, metrics: dict[str, float]) -> str:
    text = f"{name} {metrics[name]:.3f}"
    if f"{name}_low" in metrics:
        text += f"  [{metrics[f'{name}_low']:.3f}, {metrics[f'{name}_high']:.3f}]"
    return text


def _print_examples(result: Result, count: int = 2) -> None:
    """Held-out prompts with the answers before and after the stage."""
    start = next((name for name in ("sft", "pretrain") if name in result.parents), "start")
    with (Path(result.folder) / "samples.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows[-count:]:  # of the weights that were kept, which are written last
        texts = (("prompt", "prompt"), (start, "sft_response"), (result.stage, "response"))
        width = max(len(name) for name, _ in texts)
        print("".join(f"  {name:<{width}}  {visible(row[key])}\n" for name, key in texts))


def _warn_of_other_tracker(result: Result, run: Run) -> None:
    """A run that is reused is not logged again, wherever it is to be logged now."""
    saved, wanted = Path(result.folder) / CONFIG, run.tracker.kind
    if wanted is not TrackerKind.none and saved.is_file() and OmegaConf.load(saved).tracker.kind != wanted.name:
        warn(f"tracker={wanted.name}: has no effect, since the run was finished before; fresh=true runs it again")


def _print_end(result: Result, run: Run) -> None:
    if result.status is Status.finished:
        if result.stage in (*ONLINE, *JUDGED):
            _print_examples(result)
        print(f"The model is in {result.artifact}; every number is in {result.folder}/metrics.jsonl.")
        if TABLE[result.stage].keeps_rows:
            print(f"The responses that were kept are in {result.folder}/{KEPT}.")
        print(f"Look at it: {result.folder}/{report.NAME}")
        print("Next: talk to it, or change something (rlhf --help lists what), or compare several values in a study:")
        for command in after.commands(run, result, provenance.overrides()):
            print(f"  {command}")
    elif result.status is Status.stopped:
        same = "The same command without fresh=true" if run.fresh else "The same command"
        saved = any((Path(result.folder) / CHECKPOINTS).glob("*"))
        print(f"{result.message}. {same} {'goes on from there' if saved else 'begins this stage again'}.")
    else:
        warn(f"stage={result.stage} {result.status.name} ({result.reason}): {result.message}")
