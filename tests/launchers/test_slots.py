"""What a trial occupies, on pretended machines."""

import os
import subprocess
from pathlib import Path

import pytest

from launchers import slots
from launchers.slots import Slot, Slots, devices_of, listed, visible_devices
from rlhf.config import Device, Run
from rlhf.fault import Fault

FOUR = ("0", "1", "2", "3")


@pytest.fixture(autouse=True)
def _twelve_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 12)


def test_no_two_trials_have_a_device_in_common() -> None:
    here = Slots(None, None, FOUR)
    first, second, third = here.take(2), here.take(1), here.take(2)
    assert first and second and third is None  # one is left, and two are wanted
    assert {*(first.devices or ()), *(second.devices or ())} == {"0", "1", "2"} and here.free == 1
    here.give_back(first)
    again = here.take(2)
    assert again and again.devices == ("0", "1")


def test_cores_are_shared_among_the_trials_that_fit_and_their_ranks() -> None:
    assert Slots(3).take() == Slot(4)
    assert Slots(3).take(devices=2, ranks=2) == Slot(2)
    assert Slots(None, None, FOUR).take(2, 2) == Slot(3, ("0", "1"))  # two such trials at once, six cores each
    assert Slots(1, None, FOUR).take(2, 2) == Slot(6, ("0", "1"))
    assert Slots(3, 8).take(ranks=2) == Slot(4)
    assert Slots(40).take() == Slot(1)


def test_parallel_is_a_limit_and_null_means_as_many_as_fit() -> None:
    here = Slots(2, None, FOUR)
    assert here.take() and here.free == 3 and here.take() and here.free == 0 and here.take() is None
    assert Slots(None, None, FOUR).free == 4 and Slots(None).free == 12 and Slots(5).free == 5


def test_a_trial_on_the_cpu_of_a_machine_with_gpus_takes_none() -> None:
    slot = Slots(None, None, FOUR).take(devices=0, ranks=2)
    assert slot == Slot(1, ()) and slot.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in Slot(1).environment and Slot(3).environment["OMP_NUM_THREADS"] == "3"


def test_more_devices_than_there_are_is_a_fault() -> None:
    with pytest.raises(Fault, match=r"ranks=8: each rank needs a GPU of its own, and there are 4 .*lower ranks"):
        Slots(None, None, FOUR).require(8)
    Slots(None, None, FOUR).require(4)
    Slots(2).require(8)  # without GPUs ranks share the cores


@pytest.mark.parametrize(
    ("given", "devices"),
    [("2,5", ("2", "5")), ("", ()), ("-1", ()), ("1,-1,2", ("1",)), ("GPU-8f, GPU-9a", ("GPU-8f", "GPU-9a")), ("3,3", ("3",))],
)
def test_the_devices_are_those_we_were_left(monkeypatch: pytest.MonkeyPatch, given: str, devices: tuple[str, ...]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_devices() == devices


LISTING = """\
GPU 0: NVIDIA H200 (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.18gb     Device  0: (UUID: MIG-6c1f0e2e-0b5c-5c3b-9a0e-000000000001)
  MIG 1g.18gb     Device  1: (UUID: MIG-6c1f0e2e-0b5c-5c3b-9a0e-000000000002)
GPU 1: NVIDIA H200 (UUID: GPU-c68f4d2a-1d4d-4a5e-8f7e-1f0a3f9a0001)
"""


def test_nvidia_smi_is_asked_and_the_parts_of_a_cut_gpu_are_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && cat <<'END'\n{LISTING}END\n")
    smi.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert visible_devices() == listed(LISTING)
    assert [name[:4] for name in listed(LISTING)] == ["MIG-", "MIG-", "GPU-"]


def test_a_machine_whose_driver_does_not_answer_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho failed to communicate with the driver\nexit 9\n")
    smi.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert subprocess.run(["nvidia-smi"], capture_output=True).returncode == 9
    assert visible_devices() == ()


def test_gpus_that_would_stay_idle_are_remarked() -> None:
    eight = tuple(map(str, range(8)))
    (said,) = Slots(2, None, eight).remarks(1)
    assert said.startswith("sweep.parallel=2: with a GPU a trial, 6 of 8 GPUs stay idle; sweep.parallel=8 uses them")
    (said,) = Slots(2, None, eight).remarks(2)
    assert "with 2 GPUs a trial, 4 of 8 GPUs stay idle; sweep.parallel=4" in said
    assert Slots(None, None, eight).remarks(3) == Slots(4, None, eight).remarks(2) == Slots(2, None, eight).remarks(0) == []


def test_gpus_that_cannot_be_listed_are_remarked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slots, "FIRST_GPU", tmp_path / "nvidia0")
    assert Slots.here(2).remarks(1) == []
    (tmp_path / "nvidia0").touch()
    (said,) = Slots.here(2).remarks(1)
    assert "nvidia-smi could not be asked" in said and Slots.here(2).remarks(0) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Slots.here(2).remarks(1) == []


def test_a_run_on_the_cpu_takes_no_device() -> None:
    run = Run()
    run.ranks = 4
    for device, count in ((Device.cpu, 0), (Device.cuda, 4), (Device.auto, 4)):
        run.device = device
        assert devices_of(run) == count
