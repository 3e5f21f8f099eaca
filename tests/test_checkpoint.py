"""Checkpoints: the newest that is whole, and never none where there was one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf import checkpoint, sealed
from rlhf.checkpoint import TrainState, load_latest, save

STATE = TrainState(round=4, optimizer_steps=12, seconds=3.5, tokens=100.0, metrics_rows=4, samples_rows=2)


def tensors(value: float) -> dict[str, torch.Tensor]:
    turned = torch.arange(6.0).view(3, 2).t() * value  # not contiguous
    return {"policy/weights/a": torch.full((2, 3), value), "policy/step/a": torch.tensor(value), "policy/weights/b": turned}


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_what_is_saved_comes_back_byte_by_byte(tmp_path: Path) -> None:
    values = tensors(0.1) | {"bf16": torch.tensor([1.5], dtype=torch.bfloat16), "nan": torch.tensor([float("nan"), -0.0])}
    save(tmp_path / "checkpoints", STATE, values)
    found = load_latest(tmp_path / "checkpoints")
    assert found is not None
    state, loaded = found
    assert state == STATE
    assert loaded.keys() == values.keys()
    for name, tensor in values.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        both = (each.contiguous().flatten().view(torch.uint8) for each in (loaded[name], tensor))
        assert torch.equal(*both), name


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "checkpoints") is None
    (tmp_path / "checkpoints" / "00000001").mkdir(parents=True)
    assert load_latest(tmp_path / "checkpoints") is None


def test_the_old_one_goes_only_when_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, STATE, tensors(1.0))
    monkeypatch.setattr(checkpoint, "save_file", lambda *arguments: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, replace(STATE, round=8), tensors(2.0))
    found = load_latest(tmp_path)
    assert found is not None and found[0].round == 4
    monkeypatch.undo()
    present: list[list[str]] = []
    plain = checkpoint.shutil.rmtree
    monkeypatch.setattr(
        checkpoint.shutil, "rmtree", lambda path, **options: (present.append(names(tmp_path)), plain(path, **options))
    )
    save(tmp_path, replace(STATE, round=8), tensors(2.0))
    assert {"00000004", "00000008"} <= set(present[-1])
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["00000008"]


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_a_broken_newest_is_passed_over_aloud(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, STATE, tensors(1.0))
    older = tmp_path / "00000004"
    kept = tmp_path.parent / "kept"
    older.rename(kept)
    save(tmp_path, replace(STATE, round=8), tensors(2.0))
    kept.rename(older)
    with (tmp_path / "00000008" / file).open("r+b") as broken:
        broken.seek(10)
        broken.write(b"\xff")
    found = load_latest(tmp_path)
    assert found is not None
    state, loaded = found
    assert state == STATE and torch.equal(loaded["policy/weights/a"], torch.ones(2, 3))
    captured = capsys.readouterr()
    assert file in captured.out + captured.err
    save(tmp_path, replace(STATE, round=6), tensors(3.0))  # the run goes on from round 4: the broken one must not win later
    found = load_latest(tmp_path)
    assert found is not None and found[0].round == 6
    assert names(tmp_path) == ["00000006"]


def test_only_broken_ones_count_as_none(tmp_path: Path) -> None:
    save(tmp_path, STATE, tensors(1.0))
    (tmp_path / "00000004" / "state.json").unlink()
    assert load_latest(tmp_path) is None


def test_a_half_written_one_is_not_seen(tmp_path: Path) -> None:
    save(tmp_path, STATE, tensors(1.0))
    half = tmp_path / ".00000008.123"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / "00000009").mkdir()
    found = load_latest(tmp_path)
    assert found is not None and found[0].round == 4
    assert sealed.is_sealed(tmp_path / "00000004")


def test_the_newest_is_by_number_and_not_by_letter(tmp_path: Path) -> None:
    save(tmp_path, replace(STATE, round=99_999), tensors(1.0))
    kept = tmp_path.parent / "kept"
    (tmp_path / "00099999").rename(kept)
    save(tmp_path, replace(STATE, round=100_000), tensors(2.0))
    kept.rename(tmp_path / "00099999")
    found = load_latest(tmp_path)
    assert found is not None and found[0].round == 100_000
