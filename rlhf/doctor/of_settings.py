"""Rules about settings that the record shows no effect of."""

from collections.abc import Callable, Iterator
from itertools import chain

from rlhf.doctor.finding import Finding, History, Severity
from rlhf.lineage import ONLINE
from rlhf.report.paper import short

HALF_WAY = 0.25
"""Least part of its peak that a learning rate has in the middle of a run, unless its schedule is a steeper one."""
RISEN = 0.75
"""Most part of its peak that a learning rate has in the first half of its warm-up."""
STEADY = ("constant", "linear", "cosine")
RATES = {"ppo": {"policy": "learning_rate", "critic": "critic_learning_rate"}}
"""Key of each network's learning rate, where a stage has more than one."""


def ignored(run: History) -> Iterator[Finding]:
    """Settings whose work leaves a trace in the record, which has none."""
    traces = chain(_of_steps(run), _of_targets(run), _of_sampling(run), _of_penalties(run), _of_labels(run))
    for key, seen in traces:
        value = run.setting(key)
        if value and not seen:
            yield Finding(
                "setting-without-effect",
                Severity.warning,
                f"{key}={value}, and the record shows nothing of it",
                "The run is not the one that was asked for.",
                f"Look at whether anything reads {key}.",
            )


def _of_steps(run: History) -> Iterator[tuple[str, bool]]:
    """Keys of when a stage does what, and whether it does; those of which the record is too short to tell are left out."""
    stage, rounds = run.stage, [int(row["round"]) for row in run.rows if row.get("kind") == "train"]
    every, most = run.setting(f"{stage}.eval_every"), run.setting(f"{stage}.max_steps")
    if rounds and every and rounds[-1] > every:
        between = (row for row in run.rows if row.get("kind") == "eval" and 0 < int(row["round"]) < rounds[-1])
        yield f"{stage}.eval_every", any(between)
    if rounds and most:
        yield f"{stage}.max_steps", rounds[-1] <= most
    warmup, wanted = run.setting(f"{stage}.warmup_steps"), run.setting(f"{stage}.learning_rate")
    recorded = [each for name in ("policy", "reward_model") for each in run.all(f"learning_rate/{name}")]
    if warmup and wanted and recorded:
        passes = (run.setting(f"{stage}.inner_epochs") or 1) * (run.setting(f"{stage}.minibatches") or 1)
        if recorded[0][0] * passes <= warmup / 2:
            yield f"{stage}.warmup_steps", recorded[0][1] <= RISEN * wanted
    limit, walked = run.setting("early_stop.max_kl"), run.all("objective/kl", "train")
    if limit and run.setting(f"{stage}.log_every") == 1:
        yield "early_stop.max_kl", all(kl <= limit for _, kl in walked[:-1])


def _of_targets(run: History) -> Iterator[tuple[str, bool]]:
    """Keys of what is learnt of a sequence."""
    prompts, padding = run.first("signs/prompt_learnt"), run.all("signs/padding_learnt")
    if run.stage == "sft" and prompts is not None and run.setting("sft.targets") == "all":
        yield "sft.targets", prompts > 0
    if run.stage == "sft" and len(padding) > 1:  # one batch may be without any
        yield "sft.legacy_padding_loss", any(share > 0 for _, share in padding)
    loss, likelihood = run.late("loss"), run.late("loss/sft_avg")
    if run.stage == "dpo" and loss is not None and likelihood is not None:  # what is added to it is not negative
        yield "dpo.sft_coef", loss >= 0.9 * (run.setting("dpo.sft_coef") or 0.0) * likelihood


def _of_sampling(run: History) -> Iterator[tuple[str, bool]]:
    """Keys of responses and their scores, of all stages that sample."""
    if run.stage not in ONLINE:
        return
    names = {name for row in run.rows for name in row}
    mass, longest = run.setting("rollout.top_p"), run.last("response/length_mean", "train")
    if mass and mass < 1 and "signs/mass_cut" in names and run.setting("rollout.temperature") != 0:
        yield "rollout.top_p", any(cut > 0 for _, cut in run.all("signs/mass_cut"))
    if longest is not None:
        yield "rollout.max_new_tokens", longest <= (run.setting("rollout.max_new_tokens") or longest)
    if "signs/surprise" in names:  # records of before the signs have neither
        yield f"{run.stage}.reward_clip", "objective/score_clipped" in names


def _of_penalties(run: History) -> Iterator[tuple[str, bool]]:
    """Keys of PPO's losses."""
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


def _of_labels(run: History) -> Iterator[tuple[str, bool]]:
    """Weights of good and bad answers: before anything is learnt, the loss is half of them."""
    kinds = ("desirable", "undesirable")
    begun = next((row for row in run.rows if row.get("round") == 1 and {"loss", "kto/good"} <= row.keys()), None)
    weights = [run.setting(f"kto.{kind}_weight") for kind in kinds]
    if run.stage != "kto" or begun is None or None in weights:
        return
    good = begun["kto/good"]
    half = 0.5 * (weights[0] * good + weights[1] * (1 - good))
    for kind, weight in zip(kinds, weights, strict=True):
        if weight != 1:
            yield f"kto.{kind}_weight", abs(begun["loss"] - half) <= 0.01 * half


def penalty(run: History) -> Iterator[Finding]:
    """The penalty is the coefficient times the KL that is told."""
    if run.stage != "ppo" or run.setting("ppo.kl_estimator") != "k1" or run.setting("ppo.kl_target"):
        return
    coefficients, penalties = dict(run.all("objective/kl_coef")), dict(run.all("objective/non_score_reward"))
    for at, kl in run.all("objective/kl"):
        coefficient, paid = coefficients.get(at), penalties.get(at)
        if coefficient is None or paid is None:
            continue
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
