"""What several runs start from is checked once where they are only looked at, and anew where one begins."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from launchers import identify
from rlhf import chain, sealed, shelf
from rlhf.config import Run

RATES = ("1e-3", "2e-3", "3e-3")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each sealed folder, and each file of a plain one, was read whole."""
    counts: Counter[Path] = Counter()

    def counted(reads: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def call(path: Path) -> Any:
            counts[path] += 1
            return reads(path)

        return call

    monkeypatch.setattr(shelf, "open_sealed", counted(sealed.open_sealed))
    monkeypatch.setattr(shelf, "file_digest", counted(sealed.file_digest))
    return counts


@pytest.fixture
def told(make_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Any]]:
    """What is said of three reward models that differ in their learning rates."""

    def tell(*overrides: str) -> list[Any]:
        folders = [tmp_path / "trials" / rate for rate in RATES]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            run = make_run("stage=rm", f"rm.learning_rate={folder.name}", *overrides)
            OmegaConf.save(OmegaConf.structured(run), folder / "config.yaml")
        capsys.readouterr()
        assert identify.main([str(folder) for folder in folders]) == 0
        answer: list[Any] = json.loads(capsys.readouterr().out)
        return answer

    return tell


def finished(answer: list[Any]) -> list[list[bool]]:
    return [[stage["finished"] for stage in each["stages"]] for each in answer]


def test_a_parent_is_checked_once_for_all_that_are_looked_at(
    make_run: Callable[..., Run], told: Callable[..., list[Any]], read: Counter[Path]
) -> None:
    sft = Path(chain.execute(make_run("stage=sft")).artifact or "")
    read.clear()
    assert finished(told()) == [[True, False]] * 3 and read == {sft: 1}
    brought = told(f"parents.sft={sft}")
    assert finished(brought) == [[False]] * 3 and read == {sft: 2}
    assert len({each["stages"][-1]["result_signature"] for each in brought}) == 3
    chain.links(make_run("stage=rm"))  # as a run does when it begins
    assert read == {sft: 3}
    weights = sft / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert finished(told()) == [[False, False]] * 3 and read == {sft: 4}
    faults = [each["fault"] for each in told(f"parents.sft={sft}")]
    assert read == {sft: 5} and all("model.safetensors: differs from its digest" in fault for fault in faults)


def test_a_plain_folder_is_read_once_and_signed_by_its_content(
    make_run: Callable[..., Run], told: Callable[..., list[Any]], read: Counter[Path], tmp_path: Path
) -> None:
    (tmp_path / "mine/inner").mkdir(parents=True)
    files = [tmp_path / "mine" / name for name in ("config.json", "inner/model.safetensors")]
    for file in files:
        file.write_text(file.name)
    brought = f"parents.sft={tmp_path / 'mine'}"
    told(brought)
    assert read == dict.fromkeys(files, 1)
    before = chain.identify(make_run("stage=rm", brought), "rm").parents
    files[1].write_text("other")
    assert chain.identify(make_run("stage=rm", brought), "rm").parents != before
