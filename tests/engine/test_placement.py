"""Frozen networks that live elsewhere. The meta device, which holds no numbers, stands for a second one."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rlhf.engine.placement import Placement
from rlhf.fault import Fault

CPU, META = torch.device("cpu"), torch.device("meta")


@dataclass(frozen=True)
class Pair:
    first: Tensor
    second: tuple[Tensor, int]


def places(module: nn.Module, pair: Pair) -> tuple[str, str, str]:
    return tuple(str(each.device) for each in (module.weight, pair.first, pair.second[0]))


PAIR = Pair(torch.ones(2), (torch.ones(2), 3))


def test_a_frozen_network_beside_the_others_just_runs() -> None:
    placement, module = Placement(CPU), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    placement.put(module, "auto", torch.bfloat16)
    assert not module.training and not any(each.requires_grad for each in module.parameters())
    assert placement.run(places, module[0], PAIR) == ("cpu", "cpu", "cpu")
    assert module[0].weight.dtype is torch.bfloat16


def test_weights_in_cpu_memory_come_to_the_inputs_and_are_kept() -> None:
    placement, module = Placement(META), nn.Linear(2, 2)
    before = module.weight.detach().clone()
    placement.put(module, "cpu", None)
    inputs = Pair(torch.ones(2, device=META), (torch.ones(2, device=META), 3))
    assert placement.run(places, module, inputs) == ("meta", "meta", "meta")
    with placement.at_home(module):
        assert module.weight.device == META
    assert module.weight.device == CPU and torch.equal(module.weight, before)


def test_to_a_device_of_its_own_the_inputs_go_and_the_outputs_come_back() -> None:
    placement, module = Placement(CPU), nn.Linear(2, 2)
    placement.put(module, "meta", None)
    assert placement.run(places, module, PAIR) == ("meta", "meta", "meta")
    back = placement.run(lambda module, pair: (torch.ones(2), 4), module, PAIR)
    assert back[0].device == CPU and back[1] == 4


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(Fault, match=r"cuda:99: torch sees \d+ GPUs here"):
        Placement(CPU).put(nn.Linear(2, 2), "cuda:99", None)
