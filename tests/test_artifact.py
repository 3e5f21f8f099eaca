"""Artifacts among runs: found by what made them, and loaded only when whole and of the right kind."""

import json
from pathlib import Path

import pytest

from rlhf import artifact
from rlhf.fault import Fault
from rlhf.sealed import MANIFEST, seal


def write(runs: Path, run: str, signature: str, kind: str = "policy") -> Path:
    folder = runs / run / "artifact"
    seal(folder, lambda target: (target / "weights").write_text("w") and None, {"kind": kind, "result_signature": signature})
    return folder


def test_found_by_signature_whatever_the_folder_is_called(tmp_path: Path) -> None:
    write(tmp_path, "sft-a", "1" * 16)
    wanted = write(tmp_path, "sft-b", "2" * 16)
    again = write(tmp_path, "sft-c", "2" * 16)
    assert list(artifact.find(tmp_path, "2" * 16)) == [wanted, again]
    assert list(artifact.find(tmp_path, "3" * 16)) == []
    assert list(artifact.find(tmp_path / "nowhere", "1" * 16)) == []


def test_a_torn_manifest_of_another_run_is_no_obstacle(tmp_path: Path) -> None:
    (write(tmp_path, "a", "1" * 16) / MANIFEST).write_text('{"kind": "pol')
    wanted = write(tmp_path, "b", "2" * 16)
    assert list(artifact.find(tmp_path, "2" * 16)) == [wanted]
    assert list(artifact.find(tmp_path, "1" * 16)) == []


def test_loading_names_the_setting_and_the_fault(tmp_path: Path) -> None:
    folder = write(tmp_path, "rm", "1" * 16, kind="reward_model")
    assert artifact.load(folder, "reward_model", "parents.rm").signature == "1" * 16
    with pytest.raises(Fault, match=r"parents\.sft=.*is a reward_model, but a policy is needed"):
        artifact.load(folder, "policy", "parents.sft")
    (folder / "weights").write_text("other")
    with pytest.raises(Fault, match=r"parents\.rm=.*weights: differs"):
        artifact.load(folder, "reward_model", "parents.rm")
    assert json.loads((folder / MANIFEST).read_text())["kind"] == "reward_model"
