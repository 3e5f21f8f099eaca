"""What a stage needs of the data, asked before anything is trained. Torch-free."""

from collections.abc import Sequence

from rlhf.config import RewardModelLoss, Run
from rlhf.data.corpus import SPLITS, Corpus
from rlhf.data.labels import apart
from rlhf.data.records import Example
from rlhf.fault import Fault
from rlhf.lineage import LEARNS


def see(run: Run, stage: str, corpus: Corpus) -> None:
    """Look whether ``stage`` of this run has what it learns from and what it is measured on.

    Raises:
        Fault: it has not. Names the key and the fix.
    """
    for split in SPLITS:
        corpus.examples(LEARNS[stage], split)
    if stage == "rm":
        see_comparisons(run.rm.loss, corpus.examples("rm", "train"))
    if stage == "dpo" and not any(len(example.answers) > 1 for example in corpus.examples("rm", "train")):
        raise Fault("stage=dpo: no row has a second answer to compare with; use data with pairs, or stage=kto for labels")
    if stage == "kto":
        see_labels(run.kto.good_from, corpus.examples("rm", "train"))
    if stage == "ppo" and run.ppo.ptx_coef:
        corpus.examples(run.ppo.ptx_data.name, "train")


def see_comparisons(loss: RewardModelLoss, examples: Sequence[Example]) -> None:
    """Look whether any of ``examples`` holds what `rm.loss` learns from.

    Raises:
        Fault: none does.
    """
    rated = any(example.ratings for example in examples)
    if loss is RewardModelLoss.mse and not rated:
        raise Fault("rm.loss=mse: no row has a rating; use data with a column `rating` or `label`, or rm.loss=pairwise")
    if loss is not RewardModelLoss.mse and not any(len(example.answers) > 1 for example in examples):
        other = ", or rm.loss=mse for what people rated" if rated else ""
        raise Fault(f"rm.loss={loss.name}: no row has a second answer to compare with; use data with pairs{other}")
    if loss is RewardModelLoss.margin and not any(example.margin for example in examples):
        raise Fault("rm.loss=margin: no row says how much better an answer is; use data with a margin, or rm.loss=pairwise")


def see_labels(good_from: float, examples: Sequence[Example]) -> None:
    """Look whether ``examples`` hold both good and bad answers.

    Raises:
        Fault: they do not.
    """
    found = {bool(each.rating) for example in examples for each in apart(example, good_from)}
    if len(found) < 2:
        what = "good" if True in found else "bad"
        fix = "use data with labels of both kinds or with pairs, or set kto.good_from between the ratings of the two"
        raise Fault(f"kto.good_from={good_from}: all answers are {what}, so there is nothing to tell apart; {fix}")
