"""Stages that learn from responses their policy samples, and what these need: an end, a reward, a way to sample."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import (
    AdvantageScale,
    CriticInit,
    Goal,
    KLEstimator,
    Pessimism,
    PolicyRatio,
    PPOInit,
    PtxData,
    RewardFunction,
    RewardKind,
    RewardNormalization,
    SampleFrom,
    TokenWeighting,
)
from rlhf.config.declare import place, result, system
from rlhf.config.optimizer import OptimizerConfig


@dataclass
class OnlineConfig(OptimizerConfig):
    """What the stages have in common whose policy learns from responses that it samples and a reward scores."""

    init: PPOInit = result()
    """The policy the stage starts from and is measured against: that of stage `sft` or that of stage `pretrain`."""
    updates: int = result(at_least=1)
    """Rollouts; each is followed by `inner_epochs` passes over it."""
    batch_size: int = result(at_least=1)
    """Responses of one rollout that are learnt from, over all ranks: of `ppo` and `best_of_n` one a prompt, else `group_size`."""
    inner_epochs: int = result(at_least=1)
    """Passes over one rollout."""
    minibatches: int = result(at_least=1)
    """Optimizer steps in one pass. Must divide `batch_size`."""
    micro_batch_size: int = system(at_least=1)
    """Sequences a rank holds at once while scoring and training. Must divide `batch_size / minibatches`."""
    reward_normalization: RewardNormalization = result()
    """`reference`: scores are shifted and scaled by their mean and deviation on responses of the SFT policy; `none`: raw scores."""
    normalization_prompts: int = result(at_least=1)
    """Responses of the SFT policy from which `reference` takes mean and deviation."""
    reward_clip: Optional[float] = result(above=0)
    """Clip the (normalised) score to +- this; null: no clipping."""
    missing_eos_penalty: float = result(at_least=0)
    """Subtracted from the score of a response that does not end by itself."""
    reference_device: str = system()
    """Where the SFT policy's weights are: `auto` (beside the policy), `cpu` (in CPU memory until they are used), or a GPU of its own, `cuda:1`. With adapters the policy itself is the reference, and takes no room."""
    reward_device: str = system()
    """The same for the reward model."""
    log_every: int = system(at_least=1)
    """Updates between two rows of `metrics.jsonl`."""
    eval_every: int = system(at_least=0)
    """Updates between two evaluations; 0: only before the first and after the last update."""
    save_every: int = system(at_least=0)
    """Updates between two checkpoints; 0: only when the run is stopped."""
    keep_best: bool = result()
    """End with the weights of the best evaluation (by the stage's own metric, or `early_stop.metric`) instead of the last ones; `eval_every` must be set."""


@dataclass
class PolicyGradientConfig(OnlineConfig):
    """What those have in common that follow the gradient of the reward, with a price on the policy's KL to where it started."""

    kl_coef: float = result(at_least=0)
    """Price of a nat of KL to the policy it started from, in scores."""
    entropy_coef: float = result(at_least=0)
    """Weight of the policy's entropy in its objective; 0: none."""
    clip_range: float = result(above=0)
    """The probability ratio is clipped to 1 +- this."""
    capture_step: Optional[int] = system(at_least=1)
    """The update, from 1, that is kept in the run's folder as a capsule, which `replay` computes again under other settings (docs/replay.md); null: none."""


@dataclass
class PPOConfig(PolicyGradientConfig):
    """Proximal policy optimisation (Schulman et al. 2017): a critic, and the KL penalty on each token's reward."""

    critic_learning_rate: float = result(above=0)
    """Peak learning rate of the critic's AdamW."""
    critic_init: CriticInit = result()
    """What the critic starts from: the `reward_model`, or the `sft` policy's trunk with a new head; `auto`: the reward model if there is one that reads the policy's tokens."""
    critic_warmup: int = result(at_least=0)
    """First updates in which only the critic learns."""
    kl_target: Optional[float] = result(above=0)
    """Adapt `kl_coef` until a response's KL to the SFT policy is this many nats (Ziegler et al. 2019, section 2.2); null: keep it."""
    kl_horizon: int = result(at_least=1)
    """Responses over which an adaptive `kl_coef` may move by a fifth of itself; read with `kl_target` only."""
    kl_estimator: KLEstimator = result()
    """Of the penalty, for a sampled token (Schulman 2020): `k1` log pi - log pi_SFT, whose optimum is pi_SFT exp(reward / kl_coef); `k3` r - 1 - log r with r = pi_SFT / pi, which is never negative, but pulls to another optimum."""
    gamma: float = result(at_least=0, at_most=1)
    """Discount of future rewards."""
    gae_lambda: float = result(at_least=0, at_most=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016)."""
    value_lambda: Optional[float] = result(at_least=0, at_most=1)
    """Lambda of the returns the critic learns (VC-PPO: 1, while the policy's may be lower; Yuan et al. 2025); null: `gae_lambda`."""
    max_update_kl: Optional[float] = result(above=0)
    """End an update's inner epochs once the policy is this far (approximate KL in nats a token) from the one that sampled; null: never."""
    ptx_coef: float = result(at_least=0)
    """Weight of the language-modelling loss that is mixed into each step (PPO-ptx, Ouyang et al. 2022, equation 2), a mean over its tokens; 0: none."""
    ptx_data: PtxData = result()
    """Where its text comes from: the demonstrations of stage `sft`, or the documents of stage `pretrain`."""
    ema_decay: Optional[float] = result(at_least=0, below=1)
    """Keep a running average of the policy, old weights weighing this much after an update; evaluated and saved beside the policy. null: none."""
    value_clip_range: Optional[float] = result(above=0)
    """Values may move this far from the rollout's before the loss is clipped; null: no clipping."""
    whiten_rewards: bool = result()
    """Scale the per-token rewards of a rollout to variance 1, their mean kept (Ziegler et al. 2019; Huang et al. 2024, detail 18)."""
    whiten_advantages: bool = result()
    """Shift and scale the advantages of a rollout to mean 0 and variance 1."""
    whiten_unbiased: bool = result()
    """In both, divide squared distances by one token less than there are, as torch and TRL do; false: by all, as Ziegler et al. 2019."""
    score_after_end: bool = result()
    """Pay the score one step after the end token, a step that the critic values too, as the code of Ziegler et al. 2019 and TRL; false: on the end token itself. The same for a response that fills its window."""


@dataclass
class GroupedConfig(PolicyGradientConfig):
    """Several responses to each prompt, each judged beside the others: no critic."""

    group_size: int = result(at_least=2)
    """Responses to a prompt. Must divide `batch_size`."""


@dataclass
class RLOOConfig(GroupedConfig):
    """REINFORCE on whole responses, the baseline of each the mean of the others (Ahmadian et al. 2024); KL is paid by the reward."""


@dataclass
class GRPOConfig(GroupedConfig):
    """Group-relative policy optimisation (Shao et al. 2024), with what Dr. GRPO, DAPO and GSPO changed as switches."""

    scale_by: AdvantageScale = result()
    """What a score's distance from its group's mean is divided by: the deviation of the `group`, that of the whole `batch`, or `none` (Dr. GRPO, Liu et al. 2025)."""
    weighting: TokenWeighting = result()
    """How much a token counts: `sequence`: responses count alike, the tokens of one share its weight; `token`: all tokens alike (DAPO, Yu et al. 2025); `constant`: as `token`, but divided by responses x `rollout.max_new_tokens` whatever was sampled (Dr. GRPO)."""
    ratio: PolicyRatio = result()
    """Of the new to the old probability, which is clipped: of each `token`, or of the whole `sequence`, as the geometric mean over its tokens (GSPO, Zheng et al. 2025)."""
    clip_range_high: Optional[float] = result(above=0)
    """The ratio is clipped above at 1 + this (DAPO); null: `clip_range`."""
    kl_in_reward: bool = result()
    """true: KL is subtracted from the score, as in `rloo`, with the optimum pi_SFT exp(score / kl_coef); false: its estimate k3 is a term of the loss, as published, which pulls to another optimum (docs/grpo.md)."""
    mask_truncated: bool = result()
    """Learn nothing from responses that did not end by themselves (DAPO's overlong filtering); they still count in what the loss is divided by."""
    overlong_tokens: int = result(at_least=0)
    """Over the last so many tokens before `rollout.max_new_tokens` a response's score falls by up to 1 (DAPO's soft punishment); 0: it does not."""
    max_resamples: int = result(at_least=0)
    """How often groups whose responses all score alike, which teach nothing, are replaced by responses to other prompts (DAPO's dynamic sampling); 0: never."""


@dataclass
class BestOfNConfig(OnlineConfig):
    """Fine-tuning on the best of several responses (rejection sampling; Touvron et al. 2023, RAFT of Dong et al. 2023)."""

    n: int = result(at_least=2)
    """Responses sampled for each prompt, of which the best is kept and learnt; `batch_size` counts the prompts."""
    sample_from: SampleFrom = result()
    """Who answers: the policy it started from (`start`), so that the best of `n` of that one is learnt; or the policy as it is (`current`; RAFT), which goes on from update to update."""
    ended_only: bool = result()
    """Keep no response that did not end by itself."""
    min_score: Optional[float] = result()
    """Keep no response that the reward itself, before any normalisation, scores below this: with right and wrong answers as 1 and 0 only right ones are learnt (Yuan et al. 2023); null: the best one, however bad."""


@dataclass
class EarlyStopConfig:
    """When the stage that is asked for ends before its time; also which metric its `keep_best` follows. Its parents neither read nor sign it."""

    metric: Optional[str] = result()
    """Metric of the evaluations to follow; null: the stage's own (loss of `pretrain` and `sft`, accuracy of `dpo` and `rm` or with `rm.loss=mse` its squared error, `eval/auc` of `kto`, reward gain of `ppo`, `rloo`, `grpo` and `best_of_n`)."""
    goal: Optional[Goal] = result()
    """Which way `metric` is better; null: as is known of the metric. Needed where it depends (`response/length_mean`); the stage's own metric has its own goal."""
    patience: Optional[int] = result(at_least=1)
    """End after this many evaluations in a row without improvement; null: never."""
    min_delta: float = result(at_least=0)
    """An improvement must be larger than this."""
    max_kl: Optional[float] = result(above=0)
    """End `ppo`, `rloo` or `grpo` once its responses are this many nats a response from the policy it started from; null: never."""


@dataclass
class RewardConfig:
    """Where the score of a response comes from."""

    kind: RewardKind = result()
    """`model`: the reward model; `function`: a built-in rule; `file`: a function of your own; `http`: a server of your own."""
    function: Optional[RewardFunction] = result()
    """The rule of `kind=function`: `length` (near `target_words`), `regex` (finds `pattern`), `answer` (agrees with the data's solution), `sentiment` (positive, by VADER, from -1 to 1)."""
    target_words: Optional[int] = result(at_least=1)
    """`function=length`: words a response should have."""
    pattern: Optional[str] = result()
    """`function=regex`: what to find. `function=answer`: its first group is the answer; null: the last number."""
    path: Optional[str] = place()
    """`kind=file`: file and function, as in `my.py:score`. Its content, not its place, is signed."""
    url: Optional[str] = result()
    """`kind=http`: where to post responses. What the server computes cannot be signed: change the address with the reward."""
    members: int = result(at_least=1)
    """`kind=model`: reward models that score together, each trained by stage `rm` with another `rm.member` (Coste et al. 2023)."""
    pessimism: Pessimism = result()
    """How the scores of several become one: their mean minus `disagreement_coef` times their standard `deviation`, or the `worst` of them."""
    disagreement_coef: float = result(at_least=0)
    """By how many of their standard deviations the mean of the members' scores is lowered; 0: it is not."""
    timeout: float = system(above=0)
    """`kind=http`: seconds to wait for an answer, before the next of four tries."""
    allow_remote: bool = system()
    """`kind=http`: let prompts and responses leave this machine."""


@dataclass
class RolloutConfig:
    """How responses are sampled."""

    max_prompt_tokens: int = result(at_least=1)
    """Longer prompts lose their oldest tokens."""
    max_new_tokens: int = result(at_least=1)
    """Longest response, its end marker included."""
    temperature: float = result(at_least=0)
    """Logits are divided by this, in sampling and in log-probabilities alike; 0: greedy."""
    top_p: float = result(above=0, at_most=1)
    """Sample from the smallest set of tokens with this much probability; 1: from all. Log-probabilities stay those of the whole distribution, so PPO is off by the mass that is cut."""
    micro_batch_size: int = system(at_least=1)
    """Sequences generated side by side on a rank."""
