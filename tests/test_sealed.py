"""Folders that are whole or not there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf import sealed
from rlhf.sealed import MANIFEST, Broken, is_sealed, open_sealed, seal, write_atomically

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def fill(text: str) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        (target / "inner").mkdir()
        (target / "weights").write_text(text)
        (target / "inner" / "tokens").write_text("abc")

    return write


def test_a_sealed_folder_opens_with_what_was_said_about_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "artifact"
    seal(folder, fill("one"), {"kind": "policy"})
    manifest = open_sealed(folder)
    assert manifest["kind"] == "policy"
    assert set(manifest["files"]) == {"weights", "inner/tokens"}
    assert manifest["files"]["inner/tokens"] == SHA256_OF_ABC
    assert is_sealed(folder)
    assert [each.name for each in folder.parent.iterdir()] == ["artifact"]  # nothing is left beside it


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    seal(folder, lambda target: (target / "old").write_text("old") and None, {})
    seal(folder, fill("new"), {})
    assert set(open_sealed(folder)["files"]) == {"weights", "inner/tokens"}
    assert not (folder / "old").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["artifact"]


def die(target: Path) -> None:
    (target / "weights").write_text("half")
    raise RuntimeError("killed")


def test_a_crash_while_filling_leaves_nothing_at_the_target(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        seal(tmp_path / "artifact", die, {})
    assert not (tmp_path / "artifact").exists()
    with pytest.raises(Broken, match="never finished"):
        open_sealed(tmp_path / "artifact")
    seal(tmp_path / "artifact", fill("again"), {})  # and what it left beside is no obstacle
    assert (tmp_path / "artifact" / "weights").read_text() == "again"
    assert [each.name for each in tmp_path.iterdir()] == ["artifact"]


def test_a_crash_while_filling_leaves_the_old_content_whole(tmp_path: Path) -> None:
    seal(tmp_path / "artifact", fill("old"), {"round": 1})
    with pytest.raises(RuntimeError, match="killed"):
        seal(tmp_path / "artifact", die, {"round": 2})
    assert open_sealed(tmp_path / "artifact")["round"] == 1
    assert (tmp_path / "artifact" / "weights").read_text() == "old"


@pytest.mark.parametrize("step", range(8))
def test_a_crash_at_any_sync_gives_the_old_or_the_new_and_never_a_mixture(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps: two files, the manifest, the folder inside, the folder itself, the folder around it after the rename."""
    seal(tmp_path / "artifact", fill("old"), {"round": 1})
    plain, done = sealed._sync, 0

    def sync(path: Path) -> None:
        nonlocal done
        if done == step:
            raise OSError("no space left")
        done += 1
        plain(path)

    monkeypatch.setattr(sealed, "_sync", sync)
    if step < 6:
        with pytest.raises(OSError, match="no space"):
            seal(tmp_path / "artifact", fill("new"), {"round": 2})
    else:
        seal(tmp_path / "artifact", fill("new"), {"round": 2})
        assert done == 6
    manifest = open_sealed(tmp_path / "artifact")
    assert (manifest["round"], (tmp_path / "artifact" / "weights").read_text()) == ((1, "old") if step < 5 else (2, "new"))


def test_the_manifest_is_written_last_and_everything_is_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, synced, folder = sealed._sync, [], tmp_path / "artifact"
    monkeypatch.setattr(sealed, "_sync", lambda path: (synced.append((path.name, folder.exists())), plain(path)))
    seal(folder, fill("new"), {})
    names = [name for name, _ in synced]
    assert names[:4] == ["tokens", "weights", MANIFEST, "inner"]
    assert [there for _, there in synced] == [False] * 5 + [True]
    assert names[-1] == tmp_path.name


@pytest.mark.parametrize("name", ["weights", "inner/tokens"])
def test_a_changed_byte_or_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    seal(folder, fill("weights of a model"), {})
    file = folder / name
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Broken, match=f"{file}: differs"):
        open_sealed(folder)
    file.write_bytes(content[:-1])
    with pytest.raises(Broken, match=f"{file}: differs"):
        open_sealed(folder)
    file.unlink()
    with pytest.raises(Broken, match=f"{file}: missing"):
        open_sealed(folder)
    file.write_bytes(content)
    open_sealed(folder)


def test_without_a_readable_manifest_nothing_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    seal(folder, fill("one"), {})
    manifest = (folder / MANIFEST).read_text()
    for torn in (manifest[: len(manifest) // 2], "", "[]", "{}", '{"files": ["weights"]}'):
        (folder / MANIFEST).write_text(torn)
        with pytest.raises(Broken, match=MANIFEST):
            open_sealed(folder)
    (folder / MANIFEST).unlink()
    assert not is_sealed(folder)
    with pytest.raises(Broken, match=MANIFEST):
        open_sealed(folder)


def test_a_file_that_nobody_wrote_is_not_loaded_along(tmp_path: Path) -> None:
    """A stray `adapter_config.json` beside the weights would change what transformers loads."""
    folder = tmp_path / "artifact"
    seal(folder, fill("one"), {})
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(Broken, match=r"adapter_config\.json: not in the manifest"):
        open_sealed(folder)


def test_small_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for text in ("{}\n", json.dumps({"a": "ü"})):
        write_atomically(path, text)
        assert path.read_text() == text
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]
