"""Writes ``docs/catalogue.md``, the table of the data sets in ``conf/source/``, from the comments at the head of their files.

A head says what the set is, then `licence:`, `rows:` and `language:`, the `columns:` upstream, where they were `seen in:`
and perhaps a `note:`.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf.config import CONF

FACTS = ("licence", "rows", "language", "columns", "seen in", "note")

HEADER = """\
# Data sets by name

Written by `python -m rlhf.manual` from `conf/source/`; change those, not this page.

{count} data sets of the hub that DeepSpeed-Chat, Open-Assistant and the N+ implementation details trained on. One alone is
`data=NAME`; into any mix it goes with `+source@data.sources.NAME=NAME`, and then its keys can be set:

```sh
python -m rlhf --cfg job stage=sft model=opt125m data=gsm8k
python -m rlhf --cfg job stage=sft model=opt125m data=gsm8k +source@data.sources.alpaca=alpaca data.sources.alpaca.cap=5000
```

A source of your own is a file like theirs in a folder that `--config-dir` names, as `source/NAME.yaml`, or
`+source@data.sources.NAME=default data.sources.NAME.path=...`.

Each set is read by a test from five invented rows. The columns that are read were looked up where **columns seen in** says,
the others in those rows are upstream's as far as they are known; nothing was downloaded. Licences and numbers of rows are as
published, where known; read the card of a set before you publish what was trained on it. The largest sets have a `cap`, since
the rows of a source are held in memory; `data.sources.NAME.cap` raises it. Ready-made mixes are at the end.

| name | what | hub | format | stages | licence | rows | language | columns seen in |
|---|---|---|---|---|---|---|---|---|
"""


FOOTER = """
Of those sets' lists these are missing: ELI5 (withdrawn from the hub), TED talks and Tldr News (scripts), GPTeacher's role-plays
and the explained jokes (not on the hub), `augment_oasst` and `oa_translated` (not published), the Ukrainian SQuAD (one JSON
object), DebateSum and DivEMT (columns not seen).

## Mixes

"""


def head(file: Path) -> dict[str, str]:
    """The facts at the head of a file of ``conf/source/``, by name; `what` is the text before them."""
    what, *parts = re.split(rf"(?:\s|;\s)({'|'.join(FACTS)}): ", _comment(file))
    return {"what": what, **dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))}


def entries() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """The facts and the values of each data set, by name."""
    default = OmegaConf.load(CONF / "source" / "default.yaml")
    found = {}
    for file in sorted((CONF / "source").glob("*.yaml")):
        if file.stem != "default":
            values = OmegaConf.to_container(OmegaConf.merge(default, OmegaConf.load(file)))
            assert isinstance(values, dict)
            found[file.stem] = (head(file), {str(key): value for key, value in values.items() if key != "defaults"})
    return found


def _comment(file: Path) -> str:
    """The comment at the head of a file, in one line."""
    return " ".join(
        line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    )


def render() -> str:
    """The whole page."""
    listed = entries()
    rows = []
    for name, (facts, values) in listed.items():
        hub = str(values["path"]).removeprefix("hub:")
        part = ", ".join(str(values[key]) for key in ("subset", "files") if values.get(key))
        cells = [f"`{name}`", facts["what"], f"`{hub}`" + (f" ({part})" if part else ""), values["format"]]
        rows_read = f"{facts['rows']}; the first {values['cap']:,} are read" if values["cap"] else facts["rows"]
        cells += [" ".join(values["stages"]), facts["licence"], rows_read, facts["language"], facts["seen in"]]
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return HEADER.format(count=len(listed)) + "\n".join(rows) + "\n" + FOOTER + "\n".join(_mixes()) + "\n"


def _mixes() -> Iterator[str]:
    """A line for each mix with data sets of the catalogue."""
    for file in sorted((CONF / "data").glob("*.yaml")):
        named = re.findall(r"- /source@sources\.\w+: (?!default\b)(\w+)", file.read_text())
        above = re.findall(r"^  - (\w+)$", file.read_text(), re.MULTILINE)
        if named:
            more = [f"those of `data={mix}`" for mix in above if mix not in ("default", "_self_")]
            yield f"- `data={file.stem}`: {_comment(file)} Sources: {', '.join([*more, *(f'`{name}`' for name in named)])}."
