"""The record of a study in ``study.db``. The only module that knows Optuna.

A cell is run by one Optuna trial, or by several if it was lost or stopped and begun again; the latest one counts. Each
trial is told exactly once: the objective of a finished run, PRUNED with a violated constraint for a run that does not
fit (samplers learn from that, they ignore FAIL), FAIL for everything else.
"""

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from rlhf.fault import Fault
from rlhf.result import OBJECTIVES, Result, Status
from sweeps import objective
from sweeps.cells import RUNNING, Entry

LOCK_SECONDS = 60


class Record:
    """The Optuna study of one study folder."""

    def __init__(self, folder: Path, name: str, stage: str) -> None:
        """Open or make ``folder/study.db``.

        Raises:
            Fault: it cannot be read, or is of another stage.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._path, self._name, self._stage = folder / "study.db", name, stage
        self._choices: dict[str, list[Any]] = {}
        self._begun: dict[int, Trial] = {}
        try:
            self._study = self._open(self._path)
            for key, choices in self._recorded_choices().items():
                self._choices[key] = choices
        except (SQLAlchemyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise Fault(f"{self._path}: cannot be read ({reason}); move it away to begin the study again") from error
        recorded = self._study.user_attrs.get("stage", stage)
        if recorded != stage:
            raise Fault(f"sweep.name={name}: that study is of stage={recorded}; choose another name for stage={stage}")
        self._study.set_user_attr("stage", stage)
        while any(trial.state is TrialState.WAITING for trial in self._trials()):  # we died between two calls of `begin`
            self._study.tell(self._study.ask(), state=TrialState.FAIL)

    def entries(self) -> dict[str, Entry]:
        """The cells begun so far, by digest, in the order of their numbers."""
        latest = {trial.user_attrs["digest"]: _entry(trial) for trial in self._trials() if "digest" in trial.user_attrs}
        return {entry.digest: entry for entry in sorted(latest.values(), key=lambda entry: entry.number)}

    def declare(self, cells: list[dict[str, Any]]) -> None:
        """Make every value of ``cells`` (swept values by key) one that a trial may have. No trial may be running."""
        wider = {key: list(choices) for key, choices in self._choices.items()}
        for swept in cells:
            for key, value in swept.items():
                choices = wider.setdefault(key, [])
                if value not in choices:
                    choices.append(value)
        grown = any(wider[key] != choices for key, choices in self._choices.items())
        self._choices = wider
        if grown:
            self._rebuild()

    def begin(self, number: int, digest: str, overrides: list[str], swept: dict[str, Any]) -> Entry:
        """Record that cell ``number`` starts now."""
        fixed = {key: self._choices[key][self._choices[key].index(value)] for key, value in swept.items()}
        attributes = {"cell": number, "digest": digest, "overrides": overrides, "swept": swept}
        self._study.enqueue_trial(fixed, user_attrs=attributes)
        trial = self._study.ask(fixed_distributions={key: CategoricalDistribution(self._choices[key]) for key in swept})
        self._begun[trial.number] = trial
        return _entry(self._study.trials[trial.number])

    def end(self, entry: Entry, result: Result) -> None:
        """Tell how the trial of ``entry`` ended."""
        trial = self._begun.pop(entry.trial, None) or Trial(self._study, self._trials()[entry.trial]._trial_id)
        for key, content in (("status", result.status.name), ("reason", result.reason), ("run_folder", result.folder)):
            trial.set_user_attr(key, content)
        trial.set_constraint("fits", 1.0 if result.status is Status.infeasible else 0.0)
        value = objective.value(self._stage, result)
        if result.status in (Status.infeasible, Status.pruned):
            self._study.tell(trial, state=TrialState.PRUNED)
        elif value is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def _open(self, path: Path) -> optuna.Study:
        self._storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})
        return optuna.create_study(
            study_name=self._name,
            storage=self._storage,
            sampler=optuna.samplers.RandomSampler(seed=0),  # a grid: every value is given, none is sampled
            direction=OBJECTIVES[self._stage].direction,
            load_if_exists=True,
        )

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _recorded_choices(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for trial in self._trials():
            for key, distribution in trial.distributions.items():
                assert isinstance(distribution, CategoricalDistribution)
                found[key] = list(distribution.choices)
        return found

    def _rebuild(self) -> None:
        """Write all trials anew with the wider choices, beside, and swap the files: Optuna's choices cannot grow in place."""
        old = self._study.get_trials(deepcopy=True)
        assert all(trial.state.is_finished() for trial in old)
        self._close()
        beside = self._path.with_name("study.db.new")
        beside.unlink(missing_ok=True)
        study = self._open(beside)
        for trial in old:
            trial.distributions = {key: CategoricalDistribution(self._choices[key]) for key in trial.distributions}
            study.add_trial(trial)
        study.set_user_attr("stage", self._stage)
        self._close()
        beside.replace(self._path)
        self._study = self._open(self._path)

    def _close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()


def _entry(trial: FrozenTrial) -> Entry:
    about = trial.user_attrs
    status = about.get("status", Status.lost.name) if trial.state.is_finished() else RUNNING
    return Entry(
        about["cell"], trial.number, about["digest"], about["overrides"], about["swept"], status, about.get("reason", "")
    )
