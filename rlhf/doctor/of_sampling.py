"""Rules about sampling: whether responses come from the distributions that are trained. Any one row can show it."""

from collections.abc import Callable, Iterator

from rlhf.doctor.finding import FULL, Finding, History, Severity
from rlhf.lineage import ONLINE, PRICED
from rlhf.report.paper import short

MOST_SAMPLER_ERROR, MOST_SAMPLER_ERROR_COARSE = 2e-4, 0.15
"""Nats a token between sampler and training, in fp32 and in a lower format. SmolLM2 135M has 8e-6 in fp32, 0.03 in bf16."""
LEAST_SURPRISE, LEAST_Z = 0.005, 6.0
"""Nats a token, and standard errors, from which on sampled tokens are not those of the distributions they are judged by."""
MOST_MASS_CUT = 1e-6


def sampler(run: History) -> Iterator[Finding]:
    """Whether responses come from the distributions that their log-probabilities speak of.

    What the sampler itself says of a token shows the least rounding; what is surprising shows what the sampler does not say.
    """
    name, fault = "sampler-and-training-differ", Severity.error
    advice = "Look at temperature, forbidden tokens, position ids, number formats, and at whose weights the sampler has."
    limit = MOST_SAMPLER_ERROR if run.setting("precision") in (None, FULL) else MOST_SAMPLER_ERROR_COARSE
    apart = next((pair for pair in run.all("signs/sampler_error") if pair[1] > limit), None)
    if apart is not None:
        yield Finding(
            name,
            fault,
            f"signs/sampler_error is {short(apart[1])} nats a token in round {apart[0]}, above {short(limit)}",
            "The sampler gives its tokens other probabilities than the forward pass that trains, so each update is off-policy.",
            advice,
        )
        return
    scores, gaps = ([value for _, value in run.all(f"signs/surprise{end}", "train")] for end in ("_z", ""))
    if not scores or run.setting("rollout.top_p") not in (None, 1) or run.setting("rollout.temperature") == 0:
        return
    z, gap = sum(scores) / len(scores) ** 0.5, sum(gaps) / len(gaps)
    if abs(z) > LEAST_Z and abs(gap) > LEAST_SURPRISE:
        yield Finding(
            name,
            fault,
            f"sampled tokens are {short(gap)} nats less likely than their entropies say, {short(abs(z))} standard errors",
            "Responses were not sampled from the distribution that is trained: ratios and KL are those of other actions.",
            advice,
        )


def sampling(run: History) -> Iterator[Finding]:
    """Whether what is sampled is what log-probabilities speak of."""
    mass, cut = run.setting("rollout.top_p"), run.late("signs/mass_cut")
    if run.stage in PRICED and ((mass is not None and mass < 1) or (cut or 0.0) > MOST_MASS_CUT):
        lost = "" if cut is None else f"; signs/mass_cut: of late it leaves out {short(100 * cut)} % of the probability"
        yield Finding(
            "sampled-from-another-distribution",
            Severity.warning,
            f"rollout.top_p is {short(1.0 if mass is None else mass)}{lost}",
            "Responses come from a part of the distribution and log-probabilities from all of it: each token is off by minus "
            "the logarithm of what is left, and KL and ratios with it.",
            "Train with rollout.top_p=1.",
        )
    if run.stage in ONLINE and run.setting("rollout.temperature") == 0:
        yield Finding(
            "sampled-greedily",
            Severity.warning,
            "rollout.temperature is 0",
            "The policy sees no action but its likeliest, so it cannot find a better one, and ratios are those of no sample.",
            "Train with rollout.temperature=1.",
        )


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (sampler, sampling)
