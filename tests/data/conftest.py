"""A source with the catalogue's defaults, and a stand-in for the hub."""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlhf.config import CONF, SourceConfig

Rows = list[dict[str, Any]]


@pytest.fixture
def source() -> Callable[..., SourceConfig]:
    """A source with the values of ``conf/source/default.yaml`` but for those given."""

    def make(**values: Any) -> SourceConfig:
        default = OmegaConf.load(CONF / "source" / "default.yaml")
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SourceConfig), default, values))
        assert isinstance(made, SourceConfig)
        return made

    return make


@dataclass
class Hub:
    """What `datasets.load_dataset` knows, by what it is asked for first, and what it was asked for last."""

    known: dict[str, Rows] = field(default_factory=dict)
    fingerprint: str = "f1"
    asked: dict[str, Any] = field(default_factory=dict)

    def load_dataset(self, what: str, **options: Any) -> Any:
        self.asked = {"what": what, **options}
        if what not in self.known and options.get("data_files") not in self.known:
            raise ConnectionError("cannot reach the hub\nand more")
        rows = self.known.get(what) or self.known[options["data_files"]]
        return iter(rows) if options["streaming"] else type("Loaded", (list,), {"_fingerprint": self.fingerprint})(rows)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A package `datasets` that knows what the test puts into ``known``."""
    made = Hub()
    fake = types.ModuleType("datasets")
    fake.load_dataset = made.load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return made
