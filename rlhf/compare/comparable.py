"""Whether a metric means the same in two runs: the same exam, the same judge, the same units."""

from collections.abc import Iterator

from rlhf.compare.differences import affects
from rlhf.compare.groups import Group
from rlhf.compare.subject import PARENT, Subject
from rlhf.lineage import ONLINE

HELD_OUT = ("eval/", "reward/", "response/", "rewards/", "baseline/", "ema/")
BY_THE_JUDGE = (
    "eval/score_mean",
    "eval/score_raw",
    "reward/gain",
    "objective/scores",
    "objective/rlhf_reward",
    "ema/reward/gain",
)
"""Scores of the reward, in deviations of its scores of the SFT policy's answers."""
IN_TOKENS = ("eval/loss", "eval/perplexity", "loss", "policy/entropy", "response/length_mean")
"""Counted a token, so that they belong to a tokenizer."""
TOKENS = ("model.arch.vocab_size", "model.arch.family", "model.template")
MEASURED = ("run/", "perf/", "time/", "mem/")
"""Speed, memory and money, which hang on machine and system settings too."""
EXAM = ("path", "subset", "split", "files", "format")
"""Of a source of data: what decides which prompts there are."""


def remarks(base: Group, other: Group) -> Iterator[tuple[tuple[str, ...], str]]:
    """Beginnings of the metrics that cannot be compared, and why, a sentence each that begins with the names of the two."""
    if base.first.stage != other.first.stage:
        yield ("",), f"are of different stages ({base.first.stage} and {other.first.stage}): a name they share is another thing"
        return
    if reason := exam_differs(base.first, other.first):
        yield HELD_OUT, f"sat different exams ({reason}): held-out metrics are not comparable"
    if reason := _judge_differs(base, other):
        yield BY_THE_JUDGE, f"were scored by different judges ({reason}): their scores are not comparable"
    if base.first.stage in ("sft", "pretrain") and (changed := _unequal(base, other, TOKENS)):
        yield IN_TOKENS, f"count in different tokens ({', '.join(changed)}): losses a token are not comparable"


def reason(metric: str, base: Group, other: Group) -> str:
    """Why ``metric`` cannot be compared; empty where it can."""
    if metric.startswith(MEASURED):
        return ""
    return next((why for starts, why in remarks(base, other) if metric.startswith(starts)), "")


def exam_differs(base: Subject, other: Subject) -> str:
    """Why the held-out prompts are not the same, or not asked in the same way; empty where nothing says so."""
    if not (base.config and other.config):
        return "one of them came without its configuration"
    every = sorted(base.config.keys() | other.config.keys())
    changed = [key for key in every if base.config.get(key) != other.config.get(key) and (_measures(key) or _deals(key))]
    if changed:
        return ", ".join(changed[:3]) + (" and more" if len(changed) > 3 else "")
    prompts = [[row["prompt"] for row in each.last_samples] for each in (base, other)]
    if any(one != two for one, two in zip(*prompts, strict=False)):
        return "other prompts in samples.jsonl"
    return ""


def same_exam(base: Subject, other: Subject) -> bool:
    """Whether the recorded prompts show that both were asked the same, one by one."""
    return bool(base.last_samples and other.last_samples) and not exam_differs(base, other)


def _judge_differs(base: Group, other: Group) -> str:
    if not {base.first.stage, other.first.stage} <= {*ONLINE}:
        return ""
    changed = _unequal_parts(base, other, ("reward", "reward_model", "rm"))[:3]
    names = (("rm", "another reward model"), ("sft", "another SFT policy to measure by"))
    return ", ".join([*changed, *(told for name, told in names if _other_parent(base, other, f"{PARENT}{name}"))])


def _other_parent(base: Group, other: Group, parent: str) -> bool:
    """Whether runs of the same seed stand on another parent; where no seed is the same, whether single runs do."""
    mine = {run.seed: run.facts.get(parent) for run in base.members}
    pairs = [(mine[run.seed], run.facts.get(parent)) for run in other.members if run.seed in mine]
    if not pairs and min(len(base.members), len(other.members)) == 1:
        pairs = [(base.first.facts.get(parent), other.first.facts.get(parent))]
    return any(one is not None and two is not None and one != two for one, two in pairs)


def _unequal(base: Group, other: Group, names: tuple[str, ...]) -> list[str]:
    pairs = ((name, base.settings.get(name), other.settings.get(name)) for name in names)
    return [name for name, one, two in pairs if one is not None and two is not None and one != two]


def _unequal_parts(base: Group, other: Group, parts: tuple[str, ...]) -> list[str]:
    every = sorted(base.settings.keys() | other.settings.keys())
    inside = tuple(key for key in every if key.partition(".")[0] in parts and affects(key) == "result")
    return _unequal(base, other, inside)


def _measures(key: str) -> bool:
    return key.partition(".")[0] in ("evaluation", "data") and affects(key) == "evaluation"


def _deals(key: str) -> bool:
    parts = key.split(".")
    return parts[:2] == ["data", "sources"] and len(parts) > 3 and parts[3] in EXAM
