"""Rules about signs: numbers that have one value wherever a stage computes what it says (``rlhf/stages/signs.py``).

Each can be judged from any one row, so they are also asked while a run goes on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlhf.doctor.finding import FULL, Finding, History, Severity
from rlhf.report.paper import short


@dataclass(frozen=True)
class Sign:
    """A metric that has one value where all is well."""

    metric: str
    name: str
    healthy: float
    tolerance: float
    """In fp32."""
    coarse: float
    """In a lower number format."""
    meaning: str
    fix: str


SIGNS = (
    Sign(
        *("signs/first_ratio_error", "ratio-not-one", 0.0, 1e-3, 0.03),
        "Nothing is learnt yet, so the policy that trains must be the one that sampled, and is not: each update is off-policy.",
        "Look for dropout, position ids under padding, and another temperature or number format in one of the two passes.",
    ),
    Sign(
        *("signs/first_loss_error", "loss-not-the-advantage", 0.0, 0.01, 0.05),
        "At ratio 1 the clipped loss is minus the sum of the advantages; this one weighs tokens otherwise.",
        "Look at the mask, the sign and the average of the policy loss: a mean over responses favours short or long ones.",
    ),
    Sign(
        *("signs/padding_credit", "padding-gets-credit", 0.0, 1e-6, 1e-6),
        "Advantages or returns stand where no token is.",
        "Look at the mask in the advantage estimation.",
    ),
    Sign(
        *("signs/return_end_error", "return-beyond-the-end", 0.0, 1e-3, 0.05),
        "Nothing follows the last token, so its return is its reward; here a value from behind the end is added.",
        "Set values outside of the response to 0 before the advantages are estimated.",
    ),
    Sign(
        *("signs/score_at_end", "score-misplaced", 1.0, 1e-6, 1e-6),
        "The score of a response must be the reward of its last token; here it stands elsewhere, and may be lost with padding.",
        "Look at the index of the last token under the mask.",
    ),
    Sign(
        *("signs/ends_learnt", "end-not-learnt", 1.0, 1e-3, 1e-3),
        "Answers must close with one end token that is learnt (in a reward model: read), or a policy never learns to stop.",
        "Look for pad == eos, for a template that adds a second end token, and at the mask of the last token.",
    ),
    Sign(
        *("signs/begin_doubled", "begin-token-doubled", 0.0, 1e-3, 1e-3),
        "Sequences begin with two begin tokens, which the network never saw before and will not see when it is used.",
        "Let either the template or the tokenizer write it.",
    ),
    Sign(
        *("signs/padding_learnt", "padding-learnt", 0.0, 1e-6, 1e-6),
        "Padding is among the targets: loss and perplexity speak of it.",
        "Make targets from the attention mask.",
    ),
    Sign(
        *("signs/accumulation_error", "accumulation-changes-the-loss", 0.0, 1e-3, 0.01),
        "The micro-batches of a step are not weighed by their tokens (pairs), so cutting a batch changes what is learnt.",
        "Divide each summed loss by the units of the whole batch.",
    ),
    Sign(
        *("signs/padding_error", "padding-changes-numbers", 0.0, 0.01, 0.2),
        "A sequence gets another number alone than beside longer ones: padding is read.",
        "Look at the attention mask, at position ids, and at the index where the score is read.",
    ),
    Sign(
        *("signs/own_answers", "reference-point-of-own-answers", 0.0, 0.5, 0.5),
        "The reference point stands for the KL, estimated with answers to other prompts; these are judged beside themselves.",
        "Let each prompt meet the answer of another one, in batches of at least two.",
    ),
    Sign(
        *("signs/kept_error", "kept-not-the-best", 0.0, 1e-6, 1e-6),
        "What is learnt is not the best of the responses to its prompt: the worst may be learnt, or easy prompts alone.",
        "Choose among the responses to each prompt by itself, and look at the index of what is chosen.",
    ),
)

ASKED_FOR = ("signs/padding_learnt", "signs/padding_error", "signs/ends_learnt")
"""What `sft.legacy_padding_loss` changes, which brings an old bug back on purpose."""


def signs(run: History) -> Iterator[Finding]:
    """The first value of each sign that is not the healthy one."""
    full = run.setting("precision") in (None, FULL)
    legacy = run.stage == "sft" and run.setting("sft.legacy_padding_loss")
    for sign in SIGNS:
        if legacy and sign.metric in ASKED_FOR:
            continue
        limit = sign.tolerance if full else sign.coarse
        wrong = next((pair for pair in run.all(sign.metric) if abs(pair[1] - sign.healthy) > limit), None)
        if wrong is not None:
            evidence = f"{sign.metric} is {short(wrong[1])} in round {wrong[0]}, not {short(sign.healthy)}"
            yield Finding(sign.name, Severity.error, evidence, sign.meaning, sign.fix)


def prompts(run: History) -> Iterator[Finding]:
    """Prompts among the targets, where only responses are to be learnt."""
    learnt = run.first("signs/prompt_learnt")
    if learnt and (run.stage != "sft" or run.setting("sft.targets") in (None, "response")):
        yield Finding(
            "prompt-learnt",
            Severity.error,
            f"signs/prompt_learnt is {short(learnt)}",
            "Prompts are among the targets, though only responses are to be: what users write is imitated, too.",
            "Look at the mask of the loss; sft.targets=all is how to ask for it.",
        )


RULES: tuple[Callable[[History], Iterator[Finding]], ...] = (signs, prompts)
