"""Every data set of the catalogue, read from invented rows in the shape of upstream's through a stand-in for the hub."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlhf import catalogue
from rlhf.config import SourceConfig
from rlhf.data.corpus import _usable
from rlhf.data.sources import Source, load_source

FIXTURES = Path(__file__).parent / "fixtures"
ENTRIES = catalogue.entries()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def config_of(name: str) -> SourceConfig:
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SourceConfig), ENTRIES[name][1]))
    assert isinstance(config, SourceConfig)
    return config


def load(name: str, hub: Any) -> Source:
    """What comes of the fixture, by whichever way the entry asks the hub for its rows."""
    config = config_of(name)
    identifier, _, revision = config.path.removeprefix("hub:").partition("@")
    at = f"@{revision}" if revision else ""
    hub.known[f"hf://datasets/{identifier}{at}/{config.files}" if config.files else identifier] = rows(name)
    return load_source(name, config, 0.0, None)


def test_the_fixtures_are_those_of_the_catalogue() -> None:
    assert {file.stem for file in FIXTURES.glob("*.jsonl")} == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_head_says_what_a_person_must_know(name: str) -> None:
    facts, values = ENTRIES[name]
    assert {"what", "licence", "rows", "language", "columns", "seen in"} <= set(facts)
    assert all(facts.values()) and facts["what"].endswith(".")
    assert values["path"].startswith("hub:") and values["path"].count("/") >= 1


@pytest.mark.parametrize("name", ENTRIES)
def test_the_rows_have_the_columns_of_upstream(name: str) -> None:
    columns = ENTRIES[name][0]["columns"].split(", ")
    assert len(rows(name)) == 5
    assert all(list(row) == columns for row in rows(name))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_data_set_serves_the_stages_it_claims_and_no_others(name: str, hub: Any) -> None:
    source, config = load(name, hub), config_of(name)
    assert source.examples
    assert set.union(*(_usable(example, config) for example in source.examples)) == set(config.stages)


@pytest.mark.parametrize("name", ENTRIES)
def test_no_marks_are_left_in_the_text(name: str, hub: Any) -> None:
    for example in load(name, hub).examples:
        answers = [answer for answer in (example.response, example.rejected) if answer is not None]
        assert len(answers) == len(set(answers))
        for text in [*(turn.text for turn in example.turns), *answers]:
            assert text == text.strip() and text
            for mark in ("Human:", "Assistant:", "USER:", "ASSISTANT:", "<human>", "<bot>", "<|endoftext|>", "<hl>"):
                assert mark not in text
        assert all("[1]" not in answer for answer in answers)
