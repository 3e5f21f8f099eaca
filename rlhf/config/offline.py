"""Stages that learn from what people wrote or chose."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import (
    DPOInit,
    DPOLoss,
    Likelihood,
    Pooling,
    ReferencePoint,
    RewardModelInit,
    RewardModelLoss,
    SFTInit,
    SFTTargets,
)
from rlhf.config.declare import result, switch, system
from rlhf.config.optimizer import OptimizerConfig


@dataclass
class TrainConfig(OptimizerConfig):
    """What every supervised stage has in common."""

    epochs: float = result(above=0)
    """Passes over the training data."""
    max_steps: Optional[int] = result(at_least=1)
    """Stop after this many optimizer steps even if `epochs` asks for more; null: no limit."""
    batch_size: int = result(at_least=1)
    """Sequences (SFT) or pairs (reward model) one optimizer step sees, over all ranks."""
    micro_batch_size: int = system(at_least=1)
    """How many of them one rank holds in memory at once. Must divide `batch_size`."""
    max_length: int = result(at_least=1)
    """Longest sequence in tokens. Prompts lose their oldest tokens first; a response that still does not fit is dropped and counted."""
    log_every: int = system(at_least=1)
    """Optimizer steps between two rows of `metrics.jsonl`."""
    eval_every: int = system(at_least=0)
    """Optimizer steps between two evaluations; 0: only before the first and after the last step."""
    eval_every_epoch: bool = system()
    """Evaluate after every pass over the training data, too."""
    save_every: int = system(at_least=0)
    """Optimizer steps between two checkpoints; 0: only when the run is stopped."""
    keep_best: bool = result()
    """End with the weights of the best evaluation (by the stage's own metric, or `early_stop.metric`) instead of the last ones; `eval_every` or `eval_every_epoch` must be set."""


@dataclass
class PretrainConfig(TrainConfig):
    """Language modelling on plain text, packed into blocks of `max_length` tokens; a sequence is a block."""


@dataclass
class SFTConfig(TrainConfig):
    """Supervised fine-tuning: cross-entropy on the tokens of the response."""

    init: SFTInit = result()
    """Start from the `model`'s own weights (`base`) or from the policy of stage `pretrain`."""

    targets: SFTTargets = result()
    """Tokens that are learnt: the last answer (`response`), every answer of a conversation with its end token (`assistant_turns`), or the prompt too (`all`, as DeepSpeed-Chat)."""
    legacy_padding_loss: bool = result()
    """Pad every sequence to `max_length` and count the padding in the loss and in the held-out perplexity, as DeepSpeed-Chat did until September 2024 (microsoft/DeepSpeedExamples pull request 819); only to understand figures of that time, such as the perplexity of 4998 before the first step."""
    packing: bool = switch()
    """Lay the sequences of a micro-batch behind one another into rows of at most `max_length` tokens, so many that the least padding is read. Each sees itself alone, so nothing but rounding changes. Not for BLOOM."""


@dataclass
class RMConfig(TrainConfig):
    """Reward model: Bradley-Terry loss on scores (Ouyang et al. 2022, equation 1)."""

    loss: RewardModelLoss = result()
    """`pairwise`: better against worse, over all pairs of a ranked list; `tokenwise`: on every token from where two answers part, as DeepSpeed-Chat; `margin`: pairwise, by at least the margin people saw; `ce`: the best against all of its list; `mse`: towards the rating people gave."""
    pooling: Pooling = result()
    """The score is the head's at the `last` token (what plain transformers reads), or its `mean` over all of them."""
    score_l2: float = result(at_least=0)
    """Weight of the squared scores of both answers, which keeps them near 0 (Open-Assistant: 0.001); 0: none."""
    center_coef: float = result(at_least=0)
    """Weight of the squared sum of the two scores of a pair, which keeps their mean near 0 (Eisenstein et al. 2023; TRL's `center_rewards_coefficient`); 0: none."""

    init: RewardModelInit = result()
    """Start the trunk from the `reward_model`'s own weights (`base`) or from the SFT policy (`sft`; same architecture)."""
    member: int = result(at_least=0)
    """Which of several reward models that learn from the same pairs: its new head, the order of the pairs, and weights that are drawn at random are others for each number. An ensemble (`reward.members`) counts on from here."""


@dataclass
class DPOConfig(TrainConfig):
    """Preference optimisation without a reward model (Rafailov et al. 2023): the policy learns from pairs directly."""

    init: DPOInit = result()
    """The policy it starts from, which is also the reference: that of stage `sft`, that of stage `pretrain`, or the `model`'s own weights (`base`)."""
    loss: DPOLoss = result()
    """`sigmoid`: DPO (Rafailov et al. 2023, equation 7); `ipo`: squared distance of the margin to 1 / (2 beta) (Azar et al. 2024); `orpo`: likelihood of the better answer and its odds against the worse, without a reference (Hong et al. 2024); `simpo`: mean log-probabilities with a target margin, without a reference (Meng et al. 2024)."""
    beta: float = result(above=0)
    """`sigmoid` and `ipo`: strength of the KL to the reference, as `ppo.kl_coef`; `simpo`: scale of the mean log-probabilities; `orpo`: weight of the odds ratio."""
    label_smoothing: float = result(at_least=0, below=0.5)
    """`sigmoid`: probability that a preference is the wrong way round (conservative DPO, Mitchell 2023); 0: none."""
    margin: float = result(at_least=0)
    """`simpo`: by how much the better answer's scaled mean log-probability shall be above the worse's (gamma)."""
    average_logprobs: bool = result()
    """`sigmoid` and `ipo`: take the mean over an answer's tokens instead of the sum, so that length does not count; `orpo` and `simpo` always do."""
    sft_coef: float = result(at_least=0)
    """`sigmoid`, `ipo` and `simpo`: weight of the better answer's negative log-likelihood a token beside the loss (RPO, Pang et al. 2024), which keeps it likely; 0: none."""
    likelihood: Likelihood = result()
    """Over what the better answers' likelihood is a mean (`orpo`, and with `sft_coef`): `answers`, each a mean over its own tokens, as published; `tokens`, over all of theirs in the batch (TRL beside DPO); `all`, the prompts' tokens too (TRL's ORPO)."""
    reference_device: str = system()
    """As `ppo.reference_device`."""


@dataclass
class KTOConfig(TrainConfig):
    """Prospect-theoretic optimisation (Ethayarajh et al. 2024): the policy learns from single answers labelled good or bad."""

    init: DPOInit = result()
    """As `dpo.init`."""
    reference_point: ReferencePoint = result()
    """Where gains begin: `batch`, at the KL to the reference, estimated for the whole batch from prompts with the answers of other prompts; `zero`, at the reference itself (APO-zero on single answers, D'Oosterlinck et al. 2024)."""
    beta: float = result(above=0)
    """How fast the value of gains and losses saturates; the higher, the closer to the reference."""
    desirable_weight: float = result(at_least=0)
    """Weight of the loss of good answers (lambda_D)."""
    undesirable_weight: float = result(at_least=0)
    """Weight of the loss of bad answers (lambda_U). Where there are more of one kind, set the weights so that (`desirable_weight` x good) / (`undesirable_weight` x bad) is 1 to 4/3 (Ethayarajh et al. 2024, equation 8); the run prints it."""
    good_from: float = result()
    """An answer is good if its rating is at least this; a `label` is a rating of 1 or 0, and the better and the worse of a pair are good and bad whatever it is."""
    reference_device: str = system()
    """As `ppo.reference_device`."""
