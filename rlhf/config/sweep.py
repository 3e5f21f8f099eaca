"""Studies."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import Pruner, Resource, Sampler, SweepMode
from rlhf.config.declare import system


@dataclass
class SweepConfig:
    """A study: many runs from one command (`-m` with several values for a key, or `sweep=<name>`)."""

    name: Optional[str] = system()
    """Folder of the study under `studies/`; null: a name from the stage, the space and what is fixed."""
    mode: SweepMode = system()
    """`characterize`: every legal cell, from the least memory to the most. `tune`: what the sampler proposes, until `trials`, `max_hours` or `max_usd` is reached. `screen`: few cells that tell the effect of each of many two-valued switches."""
    space: dict[str, str] = system()
    """The dimensions: a key and its values in Hydra's grammar (`choice(1,2)`, `range(1,5)`, `interval(0,1)`, `tag(log,interval(1e-5,1e-3))`). A key on the command line takes its place."""
    only_if: dict[str, str] = system()
    """A condition for a dimension, on dimensions before it: `lora!=none`, `zero=2,3`, several joined by `and`. Where it does not hold the key keeps its value."""
    brings: dict[str, list[str]] = system()
    """Overrides that a value brings along, as `lora=none: [sft.learning_rate=1e-5]`, or several joined by `and`; not for keys that are written or are dimensions."""
    objective: Optional[list[str]] = system()
    """Metrics of `result.json` to optimise, each with its direction (`maximize reward/gold_gain`), or `mem/peak_gib`, `time/seconds`, `cost/usd`; several make a Pareto front; null: that of the stage."""
    constraints: list[str] = system()
    """What a good point keeps to, as `mem/peak_gib <= 40`."""
    sampler: Sampler = system()
    """Of `mode=tune`: `tpe` (Bergstra et al. 2011), `random`, `cmaes` (Hansen 2016; package `cmaes`), `nsga2` (Deb et al. 2002)."""
    trials: Optional[int] = system(at_least=1)
    """Of `mode=tune`: trials in all, over all sessions; null: as many as the other limits allow."""
    max_hours: Optional[float] = system(above=0)
    """Begin no trial once the places of all runs together, parents and those that were lost included, were taken for this many hours; null: no limit."""
    max_usd: Optional[float] = system(above=0)
    """Begin no trial once all of them together cost this much; null: no limit. Needs `hardware.usd_per_hour`."""
    seeds: int = system(at_least=1)
    """Runs of a trial, with seeds `seed`, `seed`+1, ...; its objective is their mean. Surely worse trials get fewer."""
    parallel: Optional[int] = system(at_least=1)
    """Runs at a time, each on GPUs of its own where there are any; null: as many as there are GPUs or cores for."""
    threads: Optional[int] = system(at_least=1)
    """CPU threads of a run; null: the machine's cores divided by `parallel`."""
    trial_timeout: Optional[float] = system(above=0)
    """Seconds after which a run is ended (`failed`, `timeout`); null: never."""
    storage: Optional[str] = system()
    """Database that Optuna keeps the study in, as `postgresql://user@host/name`; null: `study.db` in the study's folder."""
    accept_changes: bool = system()
    """Go on with a study whose space, objective or constraints were others."""
    pruner: Pruner = system()
    """Which trials end early, judged at their evaluations while they train (`<stage>.eval_every`). `asha`: those behind the best 1/`reduction` at evaluation `min_rung`, `reduction` times that, and so on; `hyperband`: the same, a part of the trials beginning later; `median`: those whose best is behind the median of the others' averages."""
    reduction: int = system(at_least=2)
    """`asha` and `hyperband`: one trial of so many goes on after a rung, and the next rung is so many times further."""
    brackets: int = system(at_least=1)
    """`hyperband`: groups of trials; each one's first rung is `reduction` times further than that of the one before."""
    min_rung: int = system(at_least=1)
    """Number of the evaluation at which a trial can be ended first."""
    warmup_trials: int = system(at_least=1)
    """`median`: trials that must have come as far before one is ended."""
    resource: Resource = system()
    """By what trials are compared: after as many trained `tokens`, or after as many `rounds`."""
    verdict_seconds: float = system(above=0, at_most=300)
    """How long a trial waits at a rung for the study's verdict; then it goes on."""
