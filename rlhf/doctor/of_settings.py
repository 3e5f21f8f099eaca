"""Rules about settings that the record shows no effect of."""

from collections.abc import Callable, Iterator

from rlhf.doctor.finding import Finding, History, Severity
from rlhf.report.paper import short

HALF_WAY = 0.25
"""Least part of its peak that a learning rate has in the middle of a run, unless its schedule is a steeper one."""
STEADY = ("constant", "linear", "cosine")
RATES = {"ppo": {"policy": "learning_rate", "critic": "critic_learning_rate"}}
"""Key of each network's learning rate, where a stage has more than one."""


def ignored(run: History) -> Iterator[Finding]:
    """Settings whose work leaves a trace in the record, which has none."""
    for key, seen in _traces(run):
        value = run.setting(key)
        if value and not seen:
            yield Finding(
                "setting-without-effect",
                Severity.warning,
                f"{key}={value}, and the record shows nothing of it",
                "The run is not the one that was asked for.",
                f"Look at whether anything reads {key}.",
            )


def _traces(run: History) -> Iterator[tuple[str, bool]]:
    """Keys of PPO and whether their work shows; those of which the record is too short to tell are left out."""
    if run.stage != "ppo":
        return
    names = {name for row in run.rows for name in row}
    coefficients = [value for _, value in run.all("objective/kl_coef")]
    if len(coefficients) > 2:
        yield "ppo.kl_target", len(set(coefficients)) > 1
    if len(run.all("eval/kl")) > 1:
        yield "ppo.ema_decay", any(name.startswith("ema/") for name in names)
    if "loss/policy_avg" in names:
        yield "ppo.ptx_coef", "loss/ptx_avg" in names
    began = [at for at, _ in run.all("loss/policy_avg")]
    if began and run.setting("ppo.log_every") == 1:
        yield "ppo.critic_warmup", began[0] > (run.setting("ppo.critic_warmup") or 0)
    kl, paid = run.late("objective/kl"), run.late("objective/non_score_reward")
    if kl is not None and paid is not None and abs(kl) > 0.1:
        yield "ppo.kl_coef", paid != 0


def penalty(run: History) -> Iterator[Finding]:
    """The penalty is the coefficient times the KL that is told."""
    if run.stage != "ppo" or run.setting("ppo.kl_estimator") != "k1" or run.setting("ppo.kl_target"):
        return
    rows = zip(run.all("objective/kl"), run.all("objective/kl_coef"), run.all("objective/non_score_reward"), strict=False)
    for (at, kl), (_, coefficient), (_, paid) in rows:
        if abs(paid + coefficient * kl) > 0.02 * max(1.0, abs(paid)):
            yield Finding(
                "penalty-is-not-the-kl",
                Severity.error,
                f"objective/kl is {short(kl)} in round {at}, its coefficient {short(coefficient)}, the penalty {short(-paid)}",
                "The KL that is told is not the one that is paid for.",
                "Work out both from the same log-probabilities.",
            )
            return


def rates(run: History) -> Iterator[Finding]:
    """Learning rates that are not those of the settings."""
    keys = RATES.get(run.stage)
    named = {name: key for name, key in keys.items()} if keys else {"policy": "learning_rate", "reward_model": "learning_rate"}
    for name, key in named.items():
        wanted, recorded = run.setting(f"{run.stage}.{key}"), run.all(f"learning_rate/{name}")
        if not wanted or len(recorded) < 4 or run.setting(f"{run.stage}.schedule") not in STEADY:
            continue
        warmup, last = run.setting(f"{run.stage}.warmup_steps") or 0, recorded[-1][0]
        middle = [value for at, value in recorded if at >= last / 2][0]
        if max(value for _, value in recorded) > 1.01 * wanted or (warmup < last / 2 and middle < HALF_WAY * wanted):
            yield Finding(
                "learning-rate-off",
                Severity.error,
                f"learning_rate/{name} is {short(middle)} half-way, and {run.stage}.{key} {short(wanted)}",
                "The schedule does not run over the steps that the run has: it is over early, or its peak is another.",
                "Count optimizer steps, and neither micro-batches nor ranks.",
            )


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (ignored, penalty, rates)
