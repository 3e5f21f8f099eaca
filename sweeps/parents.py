"""Parents that the trials of a study need: each is trained once, as a job of its own, before the first trial that needs it."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import DictConfig

from launchers.question import about_chains
from launchers.warm import Warm
from rlhf import lineage
from rlhf.config import MissingParents, Pruner, Run
from rlhf.fault import Fault
from rlhf.result import Result, Status


@dataclass(frozen=True)
class Link:
    """A stage in the chain of a trial."""

    name: str
    """What it is to the trial: its stage, or which of several reward models (``lineage.parents``)."""
    result_signature: str
    run_signature: str
    finished: bool

    @property
    def stage(self) -> str:
        """The stage that makes it."""
        return lineage.stage_of(self.name)


Asked = Callable[[], list[Link] | None]
"""The answer, or None while there is none; raises a Fault where the trial's configuration names what cannot be used."""

ChainOf = Callable[[Path], Asked]
"""Asks for the chain of the frozen trial in a folder: the stages it hangs on, in order, and its own at the end."""


@dataclass
class Parent:
    """A run that trials wait for."""

    link: Link
    run: Run
    composed: DictConfig
    needs: frozenset[str]
    """Names of the parents it waits for itself."""
    begun: bool = False

    @property
    def name(self) -> str:
        """Names it in the study: equal names compute the same on the same engine."""
        return f"{self.link.stage}-{self.link.run_signature}"


@dataclass
class Parents:
    """Those known to a study."""

    _open: dict[str, Parent] = field(default_factory=dict)
    """By name; begun or waiting."""
    _made: set[str] = field(default_factory=set)
    """Result signatures that are there."""
    _failed: dict[str, Result] = field(default_factory=dict)
    """By name: those that did not finish in this session."""

    def needed(self, run: Run, composed: DictConfig, chain: list[Link]) -> frozenset[str]:
        """Take up the missing parents of a trial, and name those it waits for; nobody trains the same twice.

        Two trials may need the same weights, computed by engines of different settings: whichever comes first makes them.
        """
        if run.parents.missing is MissingParents.require:
            return frozenset()  # its run refuses, and says what is missing
        names: dict[str, str] = {}
        for link in chain[:-1]:
            if link.finished or link.result_signature in self._made:
                continue
            name = f"{link.stage}-{link.run_signature}"
            if name not in self._failed:
                name = next((each.name for each in self._same(link)), name)
            names[link.name] = name
            if name not in self._open and name not in self._failed:
                made = replace(lineage.as_parent(run, link.name), stage=link.stage)
                needs = frozenset(names[each] for each in lineage.parents(made, link.stage) if each in names)
                parent = composed.copy()
                parent.stage, parent.rm.member = link.stage, made.rm.member
                parent.sweep.pruner = Pruner.none.name  # nobody would answer it
                self._open[name] = Parent(link, made, parent, needs)
        return frozenset(names.values())

    def startable(self, awaited: Collection[str]) -> Iterator[Parent]:
        """Those among ``awaited`` that wait for nothing and have not begun."""
        for parent in self._open.values():
            if parent.name in awaited and not parent.begun and not any(name in self._open for name in parent.needs):
                yield parent

    def blocking(self, names: frozenset[str]) -> Result | None:
        """The result of one of ``names``, or of one that it needs, that did not finish."""
        return next((self._failed[name] for name in names if name in self._failed), None)

    def awaited(self, names: frozenset[str]) -> bool:
        """Whether one of ``names`` has not ended."""
        return any(name in self._open for name in names)

    def ended(self, parent: Parent, result: Result) -> None:
        """Hear how one came out. What needs one that did not finish is forgotten: trials may need it made otherwise."""
        del self._open[parent.name]
        if result.status is Status.finished:
            self._made.add(parent.link.result_signature)
        else:
            self._failed[parent.name] = result
            self._forget(parent.name)

    def _forget(self, gone: str) -> None:
        for name in [each.name for each in self._open.values() if gone in each.needs]:
            if self._open.pop(name, None) is not None:
                self._forget(name)

    def _same(self, link: Link) -> Iterator[Parent]:
        return (each for each in self._open.values() if each.link.result_signature == link.result_signature)


def parent_result(stage: str, model: str, seed: int, cause: Result) -> Result:
    """The result of a trial whose parent ended as ``cause``."""
    said = cause.message.splitlines()[0] if cause.message else ""
    why = f"its {cause.stage} ended {cause.status.name} ({cause.reason}): {said}"
    status = cause.status if cause.status in (Status.infeasible, Status.stopped, Status.lost) else Status.failed
    return Result(status, stage, model, "", "", reason=cause.reason, message=why, seed=seed)


def asker(warm: Warm) -> ChainOf:
    """Asks processes of the warm server."""

    def ask(folder: Path) -> Asked:
        question = about_chains(warm, [folder])

        def answer() -> list[Link] | None:
            if (told := question.answer()) is None:
                return None
            (chain,) = told
            if "fault" in chain:
                raise Fault(chain["fault"])
            return [Link(**{name: each[name] for name in Link.__dataclass_fields__}) for each in chain["stages"]]

        return answer

    return ask
