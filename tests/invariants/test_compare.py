"""What counts as the same, and which tensor is named first."""

import pytest
import torch
from torch import Tensor, nn

from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.invariants.compare import ForwardOrder, distances, off, wrong_figures
from rlhf.invariants.judge import Judged, Verdict, sum_up
from rlhf.invariants.rollouts import parting
from rlhf.invariants.ways import Invariance, Way
from rlhf.stages.batches import Comparisons, Ranked, Rollout, Sequences


def test_figures_are_judged_by_their_size_and_named_in_the_order_of_updates() -> None:
    plain = [{"loss": 2.0, "grad_norm/policy": 1e-3}, {"loss": 1.0, "grad_norm/policy": 0.5}]
    near = [{"loss": 2.0 + 1.9e-5, "grad_norm/policy": 1e-3 + 0.9e-6}, {"loss": 1.0, "grad_norm/policy": 0.5}]
    assert wrong_figures(plain, near) == []
    far = [{"loss": 2.0 + 2.1e-5, "grad_norm/policy": 1e-3 + 1.1e-6}, {"grad_norm/policy": float("nan")}]
    named = [(each.update, each.name) for each in wrong_figures(plain, far)]
    assert named == [(1, "loss"), (1, "grad_norm/policy"), (2, "loss"), (2, "grad_norm/policy")]
    assert off(2.0, 2.5) == 0.25 and off(0.0, 0.05) == pytest.approx(0.5)


def state(weight: Tensor, bias: Tensor, noisy: Tensor) -> dict[str, Tensor]:
    """Weights of a network, whose gradients are 1 but for a bias of which rounding is all there is."""
    values = {"weight": weight, "bias": bias, "noisy": noisy}
    sizes = {"weight": 1.0, "bias": 1.0, "noisy": 1e-7}
    return {
        **{f"policy/weights/{name}": value for name, value in values.items()},
        **{f"policy/exp_avg/{name}": torch.full_like(value, sizes[name]) for name, value in values.items()},
        **{f"policy/exp_avg_sq/{name}": torch.full_like(value, sizes[name] ** 2) for name, value in values.items()},
    }


def test_weights_are_far_apart_unless_their_gradients_are_rounding() -> None:
    ones, zeros = torch.ones(100), torch.zeros(10)
    plain = state(ones, zeros, zeros)
    near = distances(plain, state(ones * (1 + 9e-5), zeros + 9e-5 * 0.8, zeros + 0.01))
    assert not any(each.differs for each in near.values())  # and the bias that began at 0 counts as no smaller than the mean
    far = distances(plain, state(ones * (1 + 1.1e-4), zeros + 1e-3, zeros + 0.01))
    assert [name for name, each in far.items() if each.differs] == ["policy/weight", "policy/bias"]
    assert far["policy/weight"].weights == pytest.approx(1.1e-4, rel=1e-2)
    other = state(ones, zeros, zeros) | {"policy/exp_avg/bias": torch.full((10,), 1.01)}
    assert [name for name, each in distances(plain, other).items() if each.differs] == ["policy/bias"]
    lost = {name: tensor for name, tensor in plain.items() if not name.endswith("/weight")}
    assert distances(plain, lost)["policy/weight"].differs


class Backwards(nn.Module):
    """Registers its last layer first, as OPT does."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.unused, self.first = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.first(inputs))


def test_parameters_are_named_in_the_order_in_which_they_compute() -> None:
    spec = OptimizerSpec(*[1.0] * len(OptimizerSpec.__dataclass_fields__))
    network = Backwards()
    order = ForwardOrder({"policy": Trainable(network, spec)})
    network(torch.ones(1, 2))
    names = [f"policy/{layer}.{each}" for layer in ("first", "last", "unused") for each in ("weight", "bias")]
    assert order.end() == names
    network(torch.ones(1, 2))  # nobody listens any more
    assert order.end() == names


def test_answers_part_at_a_token_or_at_their_end() -> None:
    assert parting([[1, 2], [3]], [[1, 2], [3]]) == ""
    assert parting([[1, 2], [3, 4]], [[1, 2], [3, 5]]) == "token 2 of answer 2 is 5, not 4"
    assert parting([[1, 2]], [[1]]) == "answer 1 has 1 tokens, not 2"


def test_more_padding_is_no_target_and_holds_nothing() -> None:
    sequences = Sequences.of([([5, 6], [7]), ([5], [8])], 0, torch.device("cpu"))
    wide = sequences.padded(2, 3)
    assert wide.ids.shape == (2, 8) and wide.weight == sequences.weight
    assert not wide.mask[:, :2].any() and not wide.mask[:, 5:].any()
    assert torch.equal(wide.targets[:, 2:5], sequences.targets)
    numbers = torch.arange(6.0).view(2, 3)
    tokens, told = (sequences.ids, sequences.mask, sequences.targets), ("logprobs", "values", "advantages", "returns")
    rollout = Rollout(*tokens, valued=sequences.targets, ptx=sequences, **dict.fromkeys(told, numbers))
    more = rollout.padded(1, 1)
    assert more.ptx is not None and more.ptx.ids.shape == (2, 5)
    assert all(torch.equal(getattr(more, name)[:, 1:-1], numbers) for name in told)
    assert more.select(torch.arange(2)).ids.shape == (2, 3)  # what nobody needs is left out again
    pairs = Comparisons([Ranked((([5], [6, 7]), ([5], [8])))], 0, torch.device("cpu"))
    assert pairs.padded(1, 2).answers.ids.shape == (2, 6) and pairs.answers.ids.shape == (2, 3)


def test_an_invariance_is_as_good_as_its_worst_way() -> None:
    far = {"loss": 1e-7, "weights": 2e-6}
    ok, lost = Judged("a", Verdict.ok, farthest=far), Judged("b", Verdict.not_tried, "no such engine")
    broke, differs = Judged("c", Verdict.broke, "RuntimeError: x"), Judged("d", Verdict.differs, "update 1: loss is 2, not 1")
    ways = Invariance("ranks", (Way("a"), Way("b"), Way("c"), Way("d")), "for no reason")
    assert sum_up(ways, [ok, lost, broke, differs], 0) == (Verdict.differs, "d: update 1: loss is 2, not 1")
    assert sum_up(ways, [ok, lost, broke], 0) == (Verdict.broke, "c: RuntimeError: x")
    said = "a; off by at most loss 1e-07, weights 2e-06; 8 answers token-equal; not b: no such engine"
    assert sum_up(ways, [ok, lost], 8) == (Verdict.ok, said)
    assert sum_up(ways, [lost], 8) == (Verdict.not_tried, "no such engine")
    assert sum_up(ways, [], 8) == (Verdict.not_tried, "for no reason")
