"""The values of keys that have a few, by name."""

from enum import Enum

Zero = Enum("Zero", {"none": "none", "0": 0, "1": 1, "2": 2, "3": 3})
"""``none``: plain torch on one device. ``0``-``3``: DeepSpeed ZeRO stages (Rajbhandari et al. 2020)."""

Offload = Enum("Offload", ["none", "optimizer", "all", "nvme"])
SweepMode = Enum("SweepMode", ["characterize", "tune", "screen"])
Sampler = Enum("Sampler", ["tpe", "random", "cmaes", "nsga2"])
Precision = Enum("Precision", ["fp32", "bf16", "fp16"])
Device = Enum("Device", ["auto", "cpu", "cuda"])
Family = Enum("Family", ["llama", "opt", "gpt_neox", "gpt2", "bloom", "qwen3"])
Template = Enum("Template", ["roles", "dialogue", "plain", "tokenizer"])
Format = Enum(
    "Format",
    "auto world world_labels completion alpaca pair alpaca_pair transcripts judged pandalm ranked messages sharegpt oasst text continuation "
    "scored webgpt comparisons endings passages questions choices summary translation marked rounds scenes reasons",
)
SFTTargets = Enum("SFTTargets", ["response", "assistant_turns", "all"])
Schedule = Enum("Schedule", ["constant", "linear", "cosine", "polynomial", "cosine_restarts"])
Optimizer = Enum("Optimizer", ["adamw", "adamw_8bit"])
Quantize = Enum("Quantize", ["none", "nf4", "int8"])
RewardModelLoss = Enum("RewardModelLoss", ["pairwise", "tokenwise", "margin", "ce", "mse"])
Pooling = Enum("Pooling", ["last", "mean"])
KLEstimator = Enum("KLEstimator", ["k1", "k3"])
SFTInit = Enum("SFTInit", ["base", "pretrain"])
PPOInit = Enum("PPOInit", ["sft", "pretrain"])
RewardModelInit = Enum("RewardModelInit", ["base", "sft"])
DPOInit = Enum("DPOInit", ["sft", "pretrain", "base"])
DPOLoss = Enum("DPOLoss", ["sigmoid", "ipo", "orpo", "simpo"])
ReferencePoint = Enum("ReferencePoint", ["batch", "zero"])
Likelihood = Enum("Likelihood", ["answers", "tokens", "all"])
RewardNormalization = Enum("RewardNormalization", ["none", "reference"])
AdvantageScale = Enum("AdvantageScale", ["group", "batch", "none"])
TokenWeighting = Enum("TokenWeighting", ["sequence", "token", "constant"])
PolicyRatio = Enum("PolicyRatio", ["token", "sequence"])
SampleFrom = Enum("SampleFrom", ["start", "current"])
Pruner = Enum("Pruner", ["none", "asha", "hyperband", "median"])
Resource = Enum("Resource", ["tokens", "rounds"])
MissingParents = Enum("MissingParents", ["train", "require"])
RewardKind = Enum("RewardKind", ["model", "function", "file", "http"])
RewardFunction = Enum("RewardFunction", ["length", "regex", "answer", "sentiment"])
Pessimism = Enum("Pessimism", ["deviation", "worst"])
PtxData = Enum("PtxData", ["sft", "pretrain"])
CriticInit = Enum("CriticInit", ["auto", "reward_model", "sft"])
Goal = Enum("Goal", ["minimize", "maximize"])
TrackerKind = Enum("TrackerKind", ["none", "wandb", "tensorboard"])
TrackerArtifacts = Enum("TrackerArtifacts", ["none", "reference", "upload"])
