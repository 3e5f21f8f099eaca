"""What the hub is asked for, and what comes of its answer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import SourceConfig
from rlhf.data.hub import read_hub
from rlhf.fault import Fault

Make = Callable[..., SourceConfig]
ROWS = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}]


def test_rows_revision_subset_split_cap_and_cache(hub: Any, source: Make) -> None:
    hub.known["someone/pairs"] = ROWS
    table = read_hub("mine", source(path="hub:someone/pairs@v2", subset="main", split="dev", cap=2), "/cache")
    assert hub.asked == {
        "what": "someone/pairs",
        "name": "main",
        "revision": "v2",
        "split": "dev",
        "cache_dir": "/cache",
        "streaming": False,
    }
    assert [(row.where, row.content) for row in table.rows] == [
        ("hub:someone/pairs:0", {"prompt": "a"}),
        ("hub:someone/pairs:1", {"prompt": "b"}),
    ]


@pytest.mark.parametrize(
    ("path", "files", "builder", "place"),
    [
        ("hub:a/b", "all.jsonl", "json", "hf://datasets/a/b/all.jsonl"),
        ("hub:a/b@refs/convert/parquet", "part/*.parquet", "parquet", "hf://datasets/a/b@refs/convert/parquet/part/*.parquet"),
        ("hub:a/b", "trees.jsonl.gz", "json", "hf://datasets/a/b/trees.jsonl.gz"),
    ],
)
def test_named_files_are_read_as_they_are(path: str, files: str, builder: str, place: str, hub: Any, source: Make) -> None:
    hub.known[place] = ROWS
    assert len(read_hub("mine", source(path=path, files=files), None).rows) == 3
    assert hub.asked == {"what": builder, "data_files": place, "split": "train", "cache_dir": None, "streaming": False}


def test_files_of_an_unknown_kind_are_refused(hub: Any, source: Make) -> None:
    with pytest.raises(Fault, match=r"data\.sources\.mine\.files=a\.xml: must end in one of \.json, \.jsonl, \.csv, \.parquet"):
        read_hub("mine", source(path="hub:a/b", files="a.xml"), None)


def test_a_stream_is_read_up_to_the_cap_and_known_by_its_rows(hub: Any, source: Make) -> None:
    hub.known["a/b"] = ROWS
    read = lambda cap: read_hub("mine", source(path="hub:a/b", streaming=True, cap=cap), None)  # noqa: E731
    assert [row.content for row in read(2).rows] == ROWS[:2]
    digest = read(2).digest
    hub.known["a/b"] = [*ROWS[:2], {"prompt": "other"}]
    assert read(2).digest == digest
    assert read(3).digest != digest


def test_the_digest_holds_what_was_asked_for_and_the_fingerprint(hub: Any, source: Make) -> None:
    hub.known["someone/pairs"] = ROWS
    digest = lambda path, **values: read_hub("mine", source(path=path, **values), None).digest  # noqa: E731
    first = digest("hub:someone/pairs")
    assert digest("hub:someone/pairs") == first
    others = {digest("hub:someone/pairs@v2"), digest("hub:someone/pairs", subset="x"), digest("hub:someone/pairs", split="dev")}
    hub.fingerprint = "f2"
    assert len({first, *others, digest("hub:someone/pairs")}) == 5


def test_an_absent_data_set_is_an_error_for_the_user(hub: Any, source: Make) -> None:
    expected = r"data\.sources\.mine\.path=hub:no/such: the train split of `no/such`.*cannot reach the hub\); check the id"
    with pytest.raises(Fault, match=expected) as caught:
        read_hub("mine", source(path="hub:no/such"), None)
    assert "and more" not in str(caught.value)


def test_a_script_is_an_error_that_says_where_its_rows_are(hub: Any, source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: str, **options: Any) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found b.py")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", refuse)
    with pytest.raises(
        Fault, match=r"read the rows that the hub converted: data\.sources\.mine\.path=hub:a/b@refs/convert/parquet, or"
    ):
        read_hub("mine", source(path="hub:a/b"), None)


def test_no_rows_are_an_error_for_the_user(hub: Any, source: Make) -> None:
    hub.known["hf://datasets/a/b/x.csv"] = []
    with pytest.raises(Fault, match=r"path=hub:a/b: x\.csv holds no rows"):
        read_hub("mine", source(path="hub:a/b", files="x.csv"), None)


def test_without_the_package_the_error_says_so(source: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Fault, match=r"data\.sources\.mine\.path=hub:a/b: needs the package `datasets`"):
        read_hub("mine", source(path="hub:a/b"), None)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_package_itself_answers_as_its_stand_in_does(streaming: bool, tmp_path: Path, source: Make) -> None:
    """A folder takes the place of a data set; the package asks no network for it."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        '{"question": {"text": "Why?"}, "answers": []}\n{"question": {"text": "Who?"}, "answers": ["I"]}\n'
    )
    config = source(path=f"hub:{folder}", streaming=streaming, cap=5)
    first, again = (read_hub("mine", config, str(tmp_path / "cache")) for _ in range(2))
    assert [row.content for row in first.rows] == [
        {"question": {"text": "Why?"}, "answers": []},
        {"question": {"text": "Who?"}, "answers": ["I"]},
    ]
    assert first.digest == again.digest
    with pytest.raises(Fault, match=r"the dev split of .* cannot be loaded"):
        read_hub("mine", source(path=f"hub:{folder}", split="dev", streaming=streaming, cap=5), str(tmp_path / "cache"))
