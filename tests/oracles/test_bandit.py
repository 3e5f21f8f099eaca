"""PPO against the exact answer: a contextual bandit, where the KL-regularised optimum has a closed form.

    maximise over pi   E_pi[r] - beta * KL(pi || pi_ref)     gives     pi*(a | c) = pi_ref(a | c) exp(r(c, a) / beta) / Z(c)

The policy is a table of logits and a response is one token. Everything else is what the stages use: k1 in the reward,
`token_rewards`, `gae`, `whiten`, the clipped losses, the engine and the one loop. Actions sampled from the policy that
comes out must be as frequent as pi* says, within the 99.9 % interval of the sampling itself.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.advantages import gae, token_rewards
from rlhf.algorithms.kl import k1
from rlhf.algorithms.masks import whiten
from rlhf.config import Schedule
from rlhf.rollout.sample import draw, noise
from tests.adam import adam
from tests.oracles.tables import Tabular, Taken, train

BETAS = (0.3, 1.0, 3.0)
REFERENCE = torch.tensor(
    [[0.30, 0.25, 0.20, 0.10, 0.10, 0.05], [0.05, 0.05, 0.10, 0.20, 0.30, 0.30], [0.17, 0.17, 0.17, 0.17, 0.16, 0.16]],
    dtype=torch.float64,
)  # [contexts, actions]
REWARDS = torch.tensor(
    [[0.0, 0.2, 0.9, 1.0, 0.4, 0.7], [1.0, 0.1, 0.6, 0.3, 0.5, 0.0], [0.5, 0.0, 1.0, 0.2, 0.8, 0.3]], dtype=torch.float64
)
CONTEXTS, ACTIONS = REWARDS.shape

UPDATES, BATCH, INNER_EPOCHS, MINIBATCHES = 120, 1536, 2, 2
DRAWS = 6000
"""Actions sampled from the learned policy in each context."""
CHI_SQUARE_999 = 20.515
"""99.9 % quantile of chi-square with five degrees of freedom."""

Penalty = Callable[[Tensor, Tensor], Tensor]
"""Per-token KL from log-probabilities of policy and reference."""


def optimum(beta: float) -> Tensor:
    """pi* [contexts, actions]."""
    return (REFERENCE.log() + REWARDS / beta).softmax(-1)


def expected_reward(policy: Tensor) -> float:
    return (policy * REWARDS).sum(-1).mean().item()


def kl(policy: Tensor, other: Tensor) -> float:
    """KL(policy || other), averaged over contexts, in nats."""
    return (policy * (policy / other).log()).sum(-1).mean().item()


class Bandit(Tabular):
    """Responses of one action, in two columns of which the second is padding."""

    rounds, micro_batch_size, log_every = UPDATES, 512, UPDATES

    def __init__(self, beta: float, penalty: Penalty) -> None:
        super().__init__(REFERENCE.log(), steps=2)
        self.beta, self._penalty = beta, penalty

    def batches(self, first_round: int) -> Iterator[list[Taken]]:
        for update in range(first_round, self.rounds):
            draws = self.rollout(torch.Generator().manual_seed(update))
            generators = (torch.Generator().manual_seed(update * INNER_EPOCHS + epoch) for epoch in range(INNER_EPOCHS))
            orders = (torch.randperm(BATCH, generator=each) for each in generators)
            yield [draws.select(rows) for order in orders for rows in order.split(BATCH // MINIBATCHES)]

    @torch.no_grad()
    def rollout(self, generator: torch.Generator) -> Taken:
        contexts = torch.arange(BATCH) % CONTEXTS
        taken = draw(self.policy.rows[contexts], torch.rand(BATCH, generator=generator), temperature=1.0, top_p=1.0).tokens
        places, actions = (each[:, None].expand(-1, 2) for each in (contexts, taken))
        mask = torch.tensor([[True, False]]).expand(BATCH, 2)
        known = (self.logprobs(places, actions), REFERENCE.float().log()[places, actions], self.values(places))
        logprobs, reference, values = (each.masked_fill(~mask, float("nan")) for each in known)
        rewards = token_rewards(REWARDS.float()[contexts, taken], self._penalty(logprobs, reference), mask, self.beta)
        advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
        return Taken(places, actions, mask, logprobs, values, whiten(advantages, mask), returns)


def learned(beta: float, penalty: Penalty = k1) -> tuple[Tensor, Tensor]:
    """The logits [contexts, actions] and the values [contexts] that PPO ends with."""
    stage = Bandit(beta, penalty)
    spec = adam(adam_eps=1e-5, schedule=Schedule.linear, steps=UPDATES * INNER_EPOCHS * MINIBATCHES)
    train(stage, spec)
    return stage.policy.rows.detach(), stage.critic.rows.detach()[:, 0]


def chi_square(logits: Tensor, expected: Tensor) -> Tensor:
    """Distance [contexts] between the counts of sampled actions and what ``expected`` says of them."""
    uniform = noise([f"oracle/{context}" for context in range(CONTEXTS)], DRAWS)
    counts = torch.stack(
        [
            torch.bincount(draw(logits[context].expand(DRAWS, -1), uniform[context], 1.0, 1.0).tokens, minlength=ACTIONS)
            for context in range(CONTEXTS)
        ]
    )
    return ((counts - DRAWS * expected) ** 2 / (DRAWS * expected)).sum(-1)


@pytest.mark.parametrize("beta", BETAS)
def test_the_sampling_itself_is_within_its_interval(beta: float) -> None:
    """The optimum passes its own test, and no action is too rare for it."""
    assert (DRAWS * optimum(beta)).min() > 5
    assert (chi_square(optimum(beta).log(), optimum(beta)) < CHI_SQUARE_999).all()


@pytest.mark.parametrize("beta", BETAS)
def test_ppo_finds_the_optimum(beta: float) -> None:
    logits, values = learned(beta)
    policy, best = logits.double().softmax(-1), optimum(beta)
    assert (chi_square(logits, best) < CHI_SQUARE_999).all()
    assert expected_reward(policy) == pytest.approx(expected_reward(best), abs=5e-3)
    assert kl(policy, REFERENCE) == pytest.approx(kl(best, REFERENCE), abs=1e-2)
    # what is left on the table is exactly beta * KL(pi || pi*)
    objective, highest = (expected_reward(each) - beta * kl(each, REFERENCE) for each in (policy, best))
    assert highest - objective == pytest.approx(beta * kl(policy, best), abs=1e-9)
    assert highest - objective < 1e-3
    # the value of a context is what the best policy is worth there: beta * log Z
    worth = beta * (REFERENCE * (REWARDS / beta).exp()).sum(-1).log()
    torch.testing.assert_close(values.double(), worth, atol=0.02, rtol=0)


WRONG: dict[str, Penalty] = {
    "the sign of the KL is flipped": lambda logprobs, reference: reference - logprobs,
    "there is no KL": lambda logprobs, reference: 0 * logprobs,
    "the KL is half of what it should be": lambda logprobs, reference: 0.5 * (logprobs - reference),
    "the square stands for the KL": lambda logprobs, reference: 0.5 * (logprobs - reference) ** 2,
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_would_be_seen(mistake: str) -> None:
    logits, _ = learned(1.0, WRONG[mistake])
    assert chi_square(logits, optimum(1.0)).max() > 3 * CHI_SQUARE_999
