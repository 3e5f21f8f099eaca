"""The record of a study in an Optuna database. Beside it ``sweeps.database``, ``sweeps.distributions`` and
``sweeps.answer.importance`` know Optuna.

A cell is run by one Optuna trial, or by several if it was lost or stopped and begun again; the latest one counts. Each
trial is told exactly once: the objectives of a finished run; PRUNED for one that was pruned and, with a violated
constraint, for one that does not fit (samplers learn from these, they ignore FAIL); FAIL for everything else.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from numpy.random import SeedSequence
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from rlhf.config import Sampler
from rlhf.fault import Fault
from rlhf.result import Result, Status
from sweeps import owner
from sweeps.database import connected
from sweeps.distributions import Distributions
from sweeps.goal import Goal, measurements
from sweeps.holder import Holder
from sweeps.space import Point, Space

FILE = "study.db"
"""Where a study without `sweep.storage` is recorded, in its folder."""
RUNNING = "running"
CELL = "cell"
"""Attribute of an Optuna trial that says which cell it runs."""
HOLDER = "holder"
"""Attribute of the study's first generation that says who runs it."""
OWNER = "owner"
"""... and which folder it is of."""
ASIDE = "aside"
"""Attribute of an Optuna trial that is no proposal of the sampler, or one that nobody heard of."""
FITS = "fits"
"""Name of the constraint that a run which does not fit violates."""


@dataclass(frozen=True)
class Entry:
    """A cell as recorded. ``status`` is a ``Status`` by name, or `running`; ``number`` names its folder under ``trials/``."""

    number: int
    trial: int
    digest: str
    overrides: list[str]
    point: Point
    status: str
    reason: str


@dataclass(frozen=True)
class Proposal:
    """A point that the sampler would like to know about."""

    trial: Trial
    point: Point


class Record:
    """The Optuna study of one study folder."""

    def __init__(self, folder: Path, url: str | None, space: Space, goal: Goal, sampler: Sampler, seed: int) -> None:
        """Open or make the study that is named as ``folder``, in ``folder/study.db`` or at ``url``.

        Raises:
            Fault: it cannot be read.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._drawn, self._goal = Distributions(space), goal
        self._sampler = partial(_sampler, sampler, seed)
        self._begun: dict[int, Trial] = {}
        self._patient = True
        where = f"sweep.storage={url}" if url else str(folder / FILE)
        try:
            self._storage = connected(url or f"sqlite:///{folder / FILE}", where, lambda: self._patient)
            self._generation, self._study = self._latest(folder.name)
        except ModuleNotFoundError as error:
            raise Fault(
                f"{where}: its driver is not installed ({error}); pip install 'rlhf[postgresql]', or its own"
            ) from error
        except (SQLAlchemyError, RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            fix = "check that the database runs and can be reached" if url else "move it away to begin the study again"
            raise Fault(f"{where}: cannot be read ({reason}); {fix}") from error
        self._holder = self._held(folder, where) if url else None
        while any(trial.state is TrialState.WAITING for trial in self._trials()):  # we died between two calls
            self._study.tell(self._study.ask(), state=TrialState.FAIL)
        for trial in self._trials():  # ... or between proposing and beginning
            if trial.state is TrialState.RUNNING and CELL not in trial.user_attrs:
                Trial(self._study, trial._trial_id).set_user_attr(ASIDE, True)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def stop_waiting(self) -> None:
        """From now on a database that is away is not waited for."""
        self._patient = False

    def close(self) -> None:
        """Let go of the study, if it is held in a database that others reach too."""
        self.stop_waiting()
        if self._holder is not None:
            self._holder.release()

    @property
    def about(self) -> dict[str, Any]:
        """What was noted of the study as a whole."""
        return dict(self._study.user_attrs)

    def note(self, key: str, content: Any) -> None:
        """Keep ``content`` (plain JSON) with the study."""
        self._study.set_user_attr(key, content)

    def entries(self) -> dict[str, Entry]:
        """The cells begun so far, by digest, in the order of their numbers."""
        latest = {trial.user_attrs[CELL]["digest"]: _entry(trial) for trial in self._trials() if CELL in trial.user_attrs}
        return {entry.digest: entry for entry in sorted(latest.values(), key=lambda entry: entry.number)}

    def propose(self) -> Proposal:
        """The next point by the sampler; it must be begun, or passed over."""
        self._study.sampler = self._sampler(sum(ASIDE not in trial.user_attrs for trial in self._trials()))
        trial = self._study.ask()
        return Proposal(trial, self._drawn.suggest(trial))

    def pass_over(self, proposal: Proposal, like: Entry | None = None) -> None:
        """Settle a proposal without a run: its point breaks a rule, or it is that of ``like``."""
        known = None if like is None else self._trials()[like.trial]
        if known is None:
            proposal.trial.set_constraint(FITS, 1.0)
            self._study.tell(proposal.trial, state=TrialState.PRUNED)
        elif known.state in (TrialState.COMPLETE, TrialState.PRUNED):
            for name, value in known.constraints.items():
                proposal.trial.set_constraint(name, value)
            self._study.tell(proposal.trial, known.values, state=known.state)
        else:  # it runs, or ended without a value: nothing is learnt from it
            self._study.tell(proposal.trial, state=TrialState.FAIL)

    def begin(self, number: int, digest: str, overrides: list[str], point: Point, proposal: Proposal | None = None) -> Entry:
        """Record that cell ``number`` starts now."""
        about = {"number": number, "digest": digest, "overrides": overrides, "point": point}
        if proposal is None:
            self._study.enqueue_trial(self._drawn.plain(point), user_attrs={CELL: about, ASIDE: True})
            trial = self._study.ask()
            self._drawn.suggest(trial)
        else:
            trial = proposal.trial
            trial.set_user_attr(CELL, about)  # from now on it counts
        self._begun[trial.number] = trial
        return Entry(number, trial.number, digest, overrides, point, RUNNING, "")

    def end(self, entry: Entry, result: Result, told: Sequence[float] | None = None) -> None:
        """Tell how the trial of ``entry`` ended; ``told`` is what the sampler hears instead of the objectives measured."""
        trial = self._begun.pop(entry.trial, None) or Trial(self._study, self._trials()[entry.trial]._trial_id)
        for key, content in (("status", result.status.name), ("reason", result.reason), ("run_folder", result.folder)):
            trial.set_user_attr(key, content)
        values = told or self._goal.values(result)
        for name, excess in self._constraints(result).items():
            trial.set_constraint(name, excess)
        if result.status in (Status.infeasible, Status.pruned):
            self._study.tell(trial, state=TrialState.PRUNED)
        elif values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)

    def widen(self, results: Callable[[Entry], Result | None], judge_again: bool) -> None:
        """Make every value of the space one that a trial may have, and, if asked, judge old trials by the goal of today.

        Optuna's choices cannot grow and its values cannot change, so both mean a new generation of the study, with all
        trials copied; it counts from the moment it is complete. No trial may be running.

        Args:
            results: of ended trials.
            judge_again: whether the goal was another.

        Raises:
            Fault: a dimension was of another kind, and has no list of values today.
        """
        grown = self._drawn.widen(self._trials()) or judge_again
        if grown:
            self._copy(results if judge_again else None)

    def _copy(self, results: Callable[[Entry], Result | None] | None) -> None:
        old = self._study.get_trials(deepcopy=True)
        assert all(trial.state.is_finished() for trial in old)
        generation = self._generation + 1
        name = _generation_name(self._study.study_name, generation)
        if name in {each.study_name for each in optuna.get_all_study_summaries(self._storage)}:
            optuna.delete_study(study_name=name, storage=self._storage)  # we died while copying
        directions = [each.direction for each in self._goal.objectives]
        study = optuna.create_study(study_name=name, storage=self._storage, sampler=self._study.sampler, directions=directions)
        for trial in old:
            distributions = {key: self._drawn.widened(key, each) for key, each in trial.distributions.items()}
            values, state, constraints = trial.values, trial.state, trial.constraints
            if results is not None and CELL in trial.user_attrs:
                result = results(_entry(trial))
                values = None if result is None else self._goal.values(result)
                if state in (TrialState.COMPLETE, TrialState.FAIL):
                    state = TrialState.FAIL if values is None else TrialState.COMPLETE
                constraints = {} if result is None else self._constraints(result)
            elif results is not None:
                values, state = None, TrialState.FAIL  # a proposal without a run of its own
            study.add_trial(
                optuna.create_trial(
                    state=state,
                    values=values if state is TrialState.COMPLETE else None,
                    params=trial.params,
                    distributions=distributions,
                    user_attrs=trial.user_attrs,
                    constraints=constraints,
                )
            )
        for key, content in self._study.user_attrs.items():
            study.set_user_attr(key, content)
        study.set_user_attr("complete", True)
        self._study, self._generation = study, generation

    def _held(self, folder: Path, where: str) -> Holder:
        """Take the study, whose database others reach too."""
        owner.check(folder, self._noted(OWNER), where)  # rather than wait for another study's sweeper
        holder = Holder(partial(self._noted, HOLDER), partial(self._note, HOLDER), lambda text: print(text, file=sys.stderr))
        try:
            owner.claim(folder, self._noted(OWNER), partial(self._note, OWNER), where)
        except Fault:
            holder.release()
            raise
        return holder

    def _noted(self, key: str) -> dict[str, Any] | None:
        return self._first().user_attrs.get(key)

    def _note(self, key: str, note: dict[str, Any] | None) -> None:
        self._first().set_user_attr(key, note)

    def _first(self) -> optuna.Study:
        """The first generation, read anew: it stays when another one is begun."""
        return optuna.load_study(study_name=_generation_name(self._study.study_name, 1), storage=self._storage)

    def _latest(self, name: str) -> tuple[int, optuna.Study]:
        """The newest whole generation of the study, made if there is none."""
        kept = {each.study_name: each.user_attrs for each in optuna.get_all_study_summaries(self._storage)}
        generation = 1
        while kept.get(_generation_name(name, generation + 1), {}).get("complete"):
            generation += 1
        study = optuna.create_study(
            study_name=_generation_name(name, generation),
            storage=self._storage,
            directions=[each.direction for each in self._goal.objectives],
            load_if_exists=True,
        )
        study.sampler = self._sampler(0)
        return generation, study

    def _constraints(self, result: Result) -> dict[str, float]:
        """By how much a result violates each constraint; one that cannot be told is violated by 1."""
        fits = {FITS: 1.0 if result.status is Status.infeasible else 0.0}
        if result.status is not Status.finished:
            return fits
        measured = measurements(result)
        excesses = {str(each): each.excess(measured) for each in self._goal.constraints}
        return fits | {name: 1.0 if excess is None else excess for name, excess in excesses.items()}

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _sampler(kind: Sampler, study_seed: int, proposed: int) -> BaseSampler:
    """One for the next proposal after so many: what it draws hangs on these numbers alone, not on when the study was resumed.

    What samplers remember beyond that they keep in the study.
    """
    seed = int(SeedSequence((study_seed, proposed)).generate_state(1)[0])
    match kind:
        case Sampler.tpe:
            return TPESampler(seed=seed, constant_liar=True)
        case Sampler.random:
            return RandomSampler(seed=seed)
        case Sampler.cmaes:
            warnings.filterwarnings("ignore", "Constraints have been set")  # that a trial did not fit is told to every sampler
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case Sampler.nsga2:
            return NSGAIISampler(seed=seed)


def _generation_name(name: str, generation: int) -> str:
    base = name.partition("#")[0]
    return base if generation == 1 else f"{base}#{generation}"


def _entry(trial: FrozenTrial) -> Entry:
    ended: Mapping[str, Any] = trial.user_attrs
    about = ended[CELL]
    status = ended.get("status", Status.lost.name) if trial.state.is_finished() else RUNNING
    of_cell = about["number"], trial.number, about["digest"], about["overrides"], about["point"]
    return Entry(*of_cell, status, ended.get("reason", ""))
