"""``python -m rlhf explain WORD [key=value ...]``: keys from the schema, metrics and terms from their pages. No torch."""

import difflib
import re
import shutil
import textwrap
from collections.abc import Iterator

import hydra
from omegaconf import DictConfig, OmegaConf

from rlhf import checks, config, preflight
from rlhf.command_line import EXIT_OK, report_faults
from rlhf.config import CONF
from rlhf.explain import figures, keys, pages

WIDEST = 110
"""Columns of text, at most."""


def main(arguments: list[str]) -> int:
    """Serve the verb."""
    word = " ".join(argument for argument in arguments if "=" not in argument).strip("`")
    if not word:
        return report_faults(["explain: takes a key, a metric or a term; write python -m rlhf explain ppo.kl_coef"])
    composed = compose([argument for argument in arguments if "=" in argument])
    if isinstance(composed, list):
        return report_faults(composed)
    found = explain(word, composed)
    if not found:
        return report_faults([f"explain {word}: no key, metric or term is called that; {_near(word)}"])
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    for line in "\n\n".join(found).splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        print(textwrap.fill(line, width, subsequent_indent=indent + "  " * (not indent), break_long_words=False))
    return EXIT_OK


def compose(overrides: list[str]) -> DictConfig | list[str]:
    """The run that ``overrides`` amount to, or what is wrong with them."""
    config.register()
    checked = preflight.check(overrides)
    if checked.faults:
        return checked.faults
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return hydra.compose("config", [*overrides, *checked.companions])


def explain(word: str, composed: DictConfig) -> list[str]:
    """What ``word`` means as a key, as a metric and as a term, a text each; empty if it is none of them."""
    run = OmegaConf.to_object(composed)
    assert isinstance(run, config.Run)
    faults = checks.faults(run)
    found = ["\n".join([*keys.lines(key, word, composed), *_rules(key.path, faults)]) for key in keys.find(word)]
    if not found:
        found += filter(None, ["\n".join(keys.recipes(word))])
    found += ["\n".join(_metric(word, row)) for row in pages.metrics() if row.about(word)]
    wanted = pages.plain(word)
    entries = [entry for entry in pages.glossary() if wanted in map(pages.plain, entry.names)]
    return found + ["\n".join(_term(entry, None if faults else run, composed)) for entry in entries]


def words() -> list[str]:
    """All that can be asked for."""
    metrics = [name for row in pages.metrics() for name in row.names]
    terms = [name for entry in pages.glossary() for name in entry.names]
    return [*(key.path for key in keys.every()), *metrics, *terms]


def _rules(path: str, faults: list[str]) -> Iterator[str]:
    """What is wrong with the key in this run."""
    yield from (f"  fault: {fault}" for fault in faults if re.search(rf"(?<![\w.]){re.escape(path)}(?![\w.])", fault))


def _metric(word: str, row: pages.MetricRow) -> Iterator[str]:
    yield f"{word}: a metric, in {row.unit}" if row.unit.strip("–") else f"{word}: a metric"
    if len(row.names) > 1:
        yield f"  together with {', '.join(name for name in row.names if name != word)}"
    for title, cell in (("meaning", row.meaning), ("healthy", row.healthy), ("outside it", row.outside)):
        if cell.strip("–"):
            yield f"  {title}: {_shown(cell)}"


def _term(entry: pages.Entry, run: config.Run | None, composed: DictConfig) -> Iterator[str]:
    """A glossary entry, with its figures if the run could start."""
    yield f"{entry.names[0]}{' (' + ', '.join(entry.names[1:]) + ')' if entry.names[1:] else ''}"
    yield from (f"  {_shown(line)}" for line in entry.text.splitlines())
    told = figures.of(pages.plain(entry.names[0]), run) if run is not None else []
    if told:
        yield "  in this run:"
        yield from (f"    {line}" for line in told)
    if entry.keys:
        yield "  keys: " + ", ".join(f"{key}={keys.text_at(key, composed)}" for key in entry.keys)
    if entry.metrics:
        yield f"  metrics: {', '.join(entry.metrics)}"


def _shown(text: str) -> str:
    """Text of a page as it reads in a terminal: a link as the page it leads to."""
    return re.sub(r"\[[^\]]+\]\((\w+\.md)\)", r"docs/\1", text).replace("\\|", "|")


def _near(word: str) -> str:
    choices = {pages.plain(choice): choice for choice in words()}
    choices |= {choice.rpartition(".")[2]: choice for choice in choices.values() if "." in choice}
    near = difflib.get_close_matches(pages.plain(word), choices, 3, 0.6) or difflib.get_close_matches(word, choices, 3, 0.6)
    if near:
        return "did you mean " + " or ".join(f"`{choice}`" for choice in dict.fromkeys(choices[each] for each in near)) + "?"
    return "keys are in docs/config.md, metrics in docs/metrics.md, terms in docs/glossary.md"
