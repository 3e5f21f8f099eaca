"""Every value a person may set: its type, its meaning, its choices. The values themselves live in ``conf/``.

This module imports no torch, so that help, completion and sweep controllers stay quick. The string under a field is
its documentation: ``docs/config.md`` is generated from it. Each field says what it can touch:

* ``result()``: it can change the weights a run ends with, so it is part of the *result signature*, by which a stage
  finds the artifacts of its parents;
* ``system()``: it changes how fast, where or in what pieces the same weights are computed, or what is measured on the
  way, so it is part of the *run signature* only, which names the run's folder;
* ``place()``: it says where something is whose content can change the weights. The content is in the result signature,
  the place in the run signature.

A number says beside it what range it may be in (``at_least``, ``above``, ``at_most``, ``below``), which
``rlhf.bounds`` checks; without one any finite number is sound.

Only the parts of a ``Run`` that a stage declares in its ``reads`` are signed; paths, tracker and the like never are.
"""

from rlhf.config.around import (
    ChatConfig,
    DeepSpeedConfig,
    EvaluationConfig,
    HardwareConfig,
    ParentsConfig,
    PathsConfig,
    TrackerConfig,
)
from rlhf.config.choices import (
    AdvantageScale,
    CriticInit,
    Device,
    DPOInit,
    DPOLoss,
    Family,
    Format,
    Goal,
    KLEstimator,
    Likelihood,
    MissingParents,
    Offload,
    Optimizer,
    Pessimism,
    PolicyRatio,
    Pooling,
    PPOInit,
    Precision,
    Pruner,
    PtxData,
    Quantize,
    ReferencePoint,
    Resource,
    RewardFunction,
    RewardKind,
    RewardModelInit,
    RewardModelLoss,
    RewardNormalization,
    SampleFrom,
    Sampler,
    Schedule,
    SFTInit,
    SFTTargets,
    SweepMode,
    Template,
    TokenWeighting,
    TrackerArtifacts,
    TrackerKind,
    Zero,
)
from rlhf.config.data import DataConfig, SourceConfig
from rlhf.config.declare import composition, place, result, system
from rlhf.config.model import ArchConfig, LoraConfig, ModelConfig
from rlhf.config.offline import DPOConfig, KTOConfig, PretrainConfig, RMConfig, SFTConfig, TrainConfig
from rlhf.config.online import (
    BestOfNConfig,
    EarlyStopConfig,
    GroupedConfig,
    GRPOConfig,
    OnlineConfig,
    PolicyGradientConfig,
    PPOConfig,
    RewardConfig,
    RLOOConfig,
    RolloutConfig,
)
from rlhf.config.optimizer import OptimizerConfig
from rlhf.config.run import COMPANIONS, PARTS, STAGES, Run
from rlhf.config.sweep import SweepConfig
from rlhf.config.tree import CONF, catalogue, register

__all__ = [
    "AdvantageScale",
    "ArchConfig",
    "BestOfNConfig",
    "COMPANIONS",
    "CONF",
    "ChatConfig",
    "CriticInit",
    "DPOConfig",
    "DPOInit",
    "DPOLoss",
    "DataConfig",
    "DeepSpeedConfig",
    "Device",
    "EarlyStopConfig",
    "EvaluationConfig",
    "Family",
    "Format",
    "GRPOConfig",
    "Goal",
    "GroupedConfig",
    "HardwareConfig",
    "KLEstimator",
    "KTOConfig",
    "Likelihood",
    "LoraConfig",
    "MissingParents",
    "ModelConfig",
    "Offload",
    "OnlineConfig",
    "Optimizer",
    "OptimizerConfig",
    "PARTS",
    "PPOConfig",
    "PPOInit",
    "ParentsConfig",
    "PathsConfig",
    "PolicyGradientConfig",
    "PolicyRatio",
    "Pooling",
    "Precision",
    "PretrainConfig",
    "Pruner",
    "Pessimism",
    "PtxData",
    "Quantize",
    "RLOOConfig",
    "RMConfig",
    "ReferencePoint",
    "Resource",
    "RewardConfig",
    "RewardFunction",
    "RewardKind",
    "RewardModelInit",
    "RewardModelLoss",
    "RewardNormalization",
    "RolloutConfig",
    "Run",
    "SFTConfig",
    "SFTInit",
    "SFTTargets",
    "STAGES",
    "SampleFrom",
    "Sampler",
    "Schedule",
    "SourceConfig",
    "SweepConfig",
    "SweepMode",
    "Template",
    "TokenWeighting",
    "TrackerArtifacts",
    "TrackerConfig",
    "TrackerKind",
    "TrainConfig",
    "Zero",
    "catalogue",
    "composition",
    "place",
    "register",
    "result",
    "system",
]
