"""Sources of text and the mix they make."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import Format
from rlhf.config.declare import place, result, system


@dataclass
class SourceConfig:
    """One named source of text."""

    path: str = place()
    """A file (.jsonl, .ndjson, .json, .csv, .tsv, .parquet or .txt, also with .gz), a folder of them, a pattern (`part-*.jsonl`), `hub:<id>[@revision]` for a hub data set, or `world` for the built-in demo. Its content, not its place, is signed."""
    subset: Optional[str] = place()
    """Of a hub data set that has several: which one; null: the only one."""
    split: str = place()
    """Which split of a hub data set is read; not with `files`."""
    files: Optional[str] = place()
    """Read these files of a hub data set (`part.jsonl`, `*.parquet`) rather than what its card declares; null: as declared."""
    streaming: bool = system()
    """Read a hub data set row by row while it is downloaded, only up to `cap`, rather than all of it first."""
    format: Format = result()
    """How a row is read; `auto` tells it by the column names and says what it chose."""
    columns: dict[str, str] = result()
    """What the columns that the format reads are called in the rows: `{prompt: question}`; a dot leads into nested columns (`question.full_text`)."""
    keep: dict[str, list[str]] = result()
    """Use only rows with one of these values in a column, as `{lang: [de, en]}`; a dot leads into nested columns."""
    cap: Optional[int] = result(at_least=1)
    """Use at most this many rows of the file (the first ones; of `world`: generate this many); null: all."""
    weight: float = result(above=0)
    """Share of an epoch relative to the source's own size: 0.5 uses half its rows each epoch, 2 uses each row twice."""
    stages: list[str] = result()
    """Stages that may use it."""


@dataclass
class DataConfig:
    """What the stages are trained and measured on."""

    name: str = system()
    """Name of the mix, for run names and tags."""
    sources: dict[str, SourceConfig] = result()
    """Named sources. `data=local` has one called `mine`; others come with a mix in `conf/data/`, by a name of the catalogue (`+source@data.sources.alpaca=alpaca`), or as your own (`+source@data.sources.mine=default data.sources.mine.path=…`)."""
    temperature: float = result(above=0)
    """Evens out the sources' shares of an epoch: they go with (weight x size)^(1 / temperature), while the epoch keeps its length. 1: as large as they are; very high: all alike."""
    system_prompt: Optional[str] = result()
    """Put before every conversation that has no system turn of its own, in all stages; null: nothing."""
    eval_fraction: float = result(above=0, below=1)
    """Share of prompts held out from training in every stage, chosen by a hash of the prompt."""
    max_train_examples: Optional[int] = result(at_least=1)
    """Train each stage on at most this many examples (those whose prompts have the smallest hashes); null: on all."""
    max_bad_fraction: float = result(at_least=0, at_most=1)
    """Stop when more than this share of a source's rows cannot be read; up to it they are skipped and counted."""
