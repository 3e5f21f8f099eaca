"""What a stage reads and which stages it starts from. Torch-free, so that a chain can be checked before anything is loaded."""

from dataclasses import replace

from rlhf.config import DPOInit, PPOInit, RewardKind, RewardModelInit, Run, SFTInit

_ONLINE = ("seed", "model", "reward_model", "data", "lora", "reward", "rollout", "evaluation")

READS: dict[str, tuple[str, ...]] = {
    "pretrain": ("seed", "model", "data", "lora", "pretrain", "evaluation"),
    "sft": ("seed", "model", "data", "lora", "sft", "evaluation"),
    "rm": ("seed", "reward_model", "data", "reward_lora", "rm", "evaluation"),
    "ppo": (*_ONLINE, "reward_lora", "ppo"),
    "dpo": ("seed", "model", "data", "lora", "dpo", "evaluation"),
    "kto": ("seed", "model", "data", "lora", "kto", "evaluation"),
    "rloo": (*_ONLINE, "rloo"),
    "grpo": (*_ONLINE, "grpo"),
    "best_of_n": (*_ONLINE, "best_of_n"),
}
"""Parts of a run that each stage is handed; its engine reads some more (``signature.ENGINE_READS``)."""

PRICED = ("ppo", "rloo", "grpo")
"""Stages that follow the gradient of a reward, less a price on KL to where they started."""

ONLINE = (*PRICED, "best_of_n")
"""Stages whose policy learns from responses that it samples and a reward scores."""

JUDGED = ("dpo", "kto")
"""Stages whose policy learns from written answers that people judged, beside the frozen policy that it started from."""

LEARNS = {"pretrain": "pretrain", "sft": "sft", **dict.fromkeys(("rm", *JUDGED), "rm"), **dict.fromkeys(ONLINE, "ppo")}
"""The part of the data that each stage learns from, of ``config.PARTS``."""

BUILDS_ON: dict[str, tuple[str, ...]] = {
    "pretrain": (),
    "sft": ("pretrain",),
    "rm": ("pretrain", "sft"),
    **dict.fromkeys(JUDGED, ("pretrain", "sft")),
    **dict.fromkeys(ONLINE, ("pretrain", "sft", "rm")),
}
"""Every stage that can stand under each one; ``chain`` says which do in a run."""

ASKED_READS = ("early_stop",)
"""Parts that hold for the stage that was asked for, and not for its parents (``followed``, which also signs them)."""


def parents(run: Run, stage: str) -> list[str]:
    """Names of what ``stage`` of this run starts from: stages, and `rm.1`, `rm.2` ... after `rm` where several models score."""
    found = []
    for name in _under(run, stage):
        found.append(name)
        if name == "rm":
            found += [f"{name}.{number}" for number in range(1, run.reward.members)]
    return found


def stage_of(name: str) -> str:
    """The stage that makes the parent ``name``."""
    return name.partition(".")[0]


def as_parent(run: Run, name: str) -> Run:
    """The run in which ``run`` trains its parent ``name``: each reward model of an ensemble is drawn by the next number."""
    _, _, number = name.partition(".")
    return replace(run, rm=replace(run.rm, member=run.rm.member + int(number))) if number else run


def given(run: Run, name: str) -> str | None:
    """Where the parent ``name`` that the user has brought is; None: it is found or trained."""
    stage, _, number = name.partition(".")
    if number:
        own = run.parents.rm_members
        return own[int(number) - 1] if int(number) <= len(own) else None
    place: str | None = getattr(run.parents, stage)
    return place


def _under(run: Run, stage: str) -> list[str]:
    """The stages whose artifacts ``stage`` of this run starts from."""
    match stage:
        case "sft":
            return ["pretrain"] if run.sft.init is SFTInit.pretrain else []
        case "rm":
            return ["sft"] if run.rm.init is RewardModelInit.sft else []
        case online if online in ONLINE:
            policy = "sft" if getattr(run, online).init is PPOInit.sft else "pretrain"
            return [policy, *(["rm"] if run.reward.kind is RewardKind.model else [])]
        case judged if judged in JUDGED:
            start: DPOInit = getattr(run, judged).init
            return [] if start is DPOInit.base else [start.name]
        case _:
            return []


def chain(run: Run, stage: str) -> list[str]:
    """``stage`` after all the stages it hangs on, each once; parents of the user's own are left out."""
    found: list[str] = []
    for parent in _under(run, stage):
        if given(run, parent) is None:
            found += [each for each in chain(run, parent) if each not in found]
    return [*found, stage]


def line(run: Run, stage: str) -> list[tuple[str, Run]]:
    """As ``chain``, by the names of parents, so that each of several reward models is in it, with the run that makes each."""
    found: dict[str, Run] = {}
    for name in parents(run, stage):
        if given(run, name) is None:
            own = as_parent(run, name)
            *before, _ = line(own, stage_of(name))
            found = dict(before) | found | {name: own}
    return [*found.items(), (stage, run)]
