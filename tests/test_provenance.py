"""What made a result: written beside it, without secrets, and compared."""

from pathlib import Path

import pytest

from rlhf import provenance
from rlhf.data.corpus import Corpus

CORPUS = Corpus(parts={}, weights={}, temperature=1.0, digest="d" * 64, gold=None, fit={}, report=["mine: 3 rows"])


def git(changed: str, diff: str) -> object:
    said = {("diff", "HEAD", "--name-only"): changed, ("diff", "HEAD", "--binary"): diff}
    return lambda *arguments: said.get(arguments, "")


def test_the_lock_and_the_record_hold_what_is_installed(tmp_path: Path) -> None:
    assert provenance.write(tmp_path, CORPUS) == []
    lock = dict(line.split("==") for line in (tmp_path / provenance.LOCK).read_text().splitlines())
    assert lock["torch"] == provenance.versions()["torch"] and len(lock) > 50
    found = provenance.read(tmp_path)
    assert found["packages"] == lock
    assert (found["data_digest"], found["data"]) == ("d" * 64, ["mine: 3 rows"])


def test_changed_code_is_kept_and_clean_code_leaves_no_diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_git", git("rlhf/run.py\n", "--- a/rlhf/run.py\n"))
    provenance.write(tmp_path, CORPUS)
    assert (tmp_path / provenance.CHANGES).read_text() == "--- a/rlhf/run.py\n"
    assert provenance.read(tmp_path)["changed"] == ["rlhf/run.py"]
    monkeypatch.setattr(provenance, "_git", git("", ""))
    (said,) = provenance.write(tmp_path, CORPUS)
    assert said.startswith("changes_digest: ") and said.endswith(" → none")
    assert not (tmp_path / provenance.CHANGES).exists()


def test_variables_that_matter_are_kept_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OMP_NUM_THREADS": "3",
        "RLHF_REWARD_TOKEN": "s3cret",
        "NCCL_API_KEY": "s3cret",
        "HOME_ADDRESS": "x",
    }.items():
        monkeypatch.setenv(name, value)
    found = provenance.variables()
    assert found["OMP_NUM_THREADS"] == "3"
    assert "s3cret" not in found.values() and "HOME_ADDRESS" not in found


def test_each_difference_is_a_line() -> None:
    before = {"commit": "a", "threads": 1, "variables": {"OMP_NUM_THREADS": "1"}, "packages": {"torch": "1", "old": "1"}}
    now = {"commit": "a", "threads": 2, "variables": {}, "packages": {"torch": "2", "new": "1"}}
    assert provenance.differences(before, now) == [
        "threads: 1 → 2",
        "OMP_NUM_THREADS: 1 → none",
        "new: none → 1",
        "old: 1 → none",
        "torch: 1 → 2",
    ]
    assert provenance.differences(before, before) == []
