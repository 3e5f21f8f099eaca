"""Every command in the pages is sound, and every key, metric and file they name is there."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

import rlhf
from rlhf import checks, command_line, config, preflight
from rlhf.chat.terminal import settings_of
from rlhf.explain import answer, keys, pages
from sweeps.cells import Composer
from sweeps.legal import legal
from sweeps.space import Space

ROOT = Path(rlhf.__file__).parent.parent
PAGES = [
    path for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))] if path.is_file()
]
RUNNERS = (["rlhf"], ["python", "-m", "rlhf"], [".venv/bin/python", "-m", "rlhf"])
LOOKS = {"--help", "--hydra-help", "--version"}


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `python -m rlhf` in the page's fenced `sh` blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for runner, parts in itertools.product(RUNNERS, _simple(line)):
                if parts[: len(runner)] == runner:
                    yield parts[len(runner) :]


def _simple(line: str) -> Iterator[list[str]]:
    """The commands of a line, parted at `&&`, without settings of the environment in front."""
    words = shlex.split(line, comments=True)
    for joined, group in itertools.groupby(words, lambda word: word == "&&"):
        if not joined:
            yield list(itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), group))


EVERY = [pytest.param(page, parts, id=f"{page.name}: {' '.join(parts)}") for page in PAGES for parts in commands(page)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of one's own that the pages name."""
    made = tmp_path_factory.mktemp("own")
    (made / "my" / "folder").mkdir(parents=True)
    rows = {
        "my.jsonl": [{"prompt": f"Number {number}?", "completion": f"It is {number}."} for number in range(200)],
        "pairs.jsonl": [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(200)],
        "texts.jsonl": [{"text": f"Once there were {number} birds in a tree. " * 20} for number in range(200)],
    }
    for name, content in {**rows, "mine.jsonl": rows["my.jsonl"]}.items():
        (made / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    return made


def test_the_pages_hold_commands() -> None:
    assert len(EVERY) > 20
    assert {page.name for page in PAGES} >= {"sft.md", "rm.md", "ppo.md", "troubleshooting.md", "glossary.md"}


@pytest.mark.parametrize(("page", "arguments"), EVERY)
def test_a_command_is_sound(page: Path, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if arguments and arguments[0].isidentifier():
        _verb(arguments[0], arguments[1:])
    elif not LOOKS & set(arguments):
        _run(arguments)


def _verb(verb: str, arguments: list[str]) -> None:
    settings = [text for text in arguments if "=" in text]
    assert verb in command_line.VERBS
    if verb == "explain":
        assert answer.main(arguments) == 0
    elif verb == "chat":
        settings_of(settings)
    elif verb == "plan":
        _run(settings)
    else:
        config.register()
        assert preflight.check(settings).faults == []
        assert len(arguments) > len(settings) or verb in ("sync", "invariants")  # which need no folder


def _run(arguments: list[str]) -> None:
    """Compose the run, or each cell of a study, as `--cfg job` does, and check it as a start would."""
    config.register()
    flags, unknown = get_args_parser().parse_known_intermixed_args(arguments)
    assert unknown == []
    study = flags.multirun or preflight.chooses_study(flags.overrides)
    checked = preflight.check(flags.overrides, study)
    assert checked.faults == []
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(config.CONF)):
        found = _cells(flags.overrides) if study else [list(checks.faults(_typed([*flags.overrides, *checked.companions])))]
        assert [fault for faults in found for fault in faults if " not installed; pip install " not in fault] == []


def _typed(overrides: list[str]) -> config.Run:
    run = OmegaConf.to_object(hydra.compose("config", overrides))
    assert isinstance(run, config.Run)
    return run


def _cells(overrides: list[str]) -> list[list[str]]:
    """What is wrong with a study, and with what of its space is not left out as illegal; of a search at all its corners."""
    chosen = [text for text in overrides if not text.startswith("hydra/")]
    sweep = preflight.sweep_config(chosen)
    space = Space.of(chosen, sweep)
    composer = Composer(space)
    corners = [] if space.is_finite else [composer.cell(point) for point in space.corners()]
    return [legal(composer, chosen, sweep).faults, *(each for each in corners if isinstance(each, list))]


def lacks_data(arguments: list[str]) -> bool:
    """Whether the run reads data that is not on this machine, or not with the tests."""
    composed = answer.compose([*(text for text in arguments if "=" in text), "debug=smoke"])
    assert isinstance(composed, DictConfig), composed
    return any(source.path != "world" and not Path(source.path).is_file() for source in composed.data.sources.values())


NO_RUN = LOOKS | {"-m", "--cfg", "sweep=tune_sft", "model=custom"}
"""Studies, and a network of one's own, which has no sizes of its family to make it small."""
RUNS = [each for each in EVERY if not NO_RUN & set(each.values[1]) and "=" in (each.values[1] or ["="])[0]]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "arguments"), RUNS)
def test_a_command_runs_two_steps(page: Path, arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if lacks_data(arguments):
        pytest.skip("its data is elsewhere")
    command = [sys.executable, "-m", "rlhf", *arguments, "debug=smoke"]
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_command_that_has_gone_stale_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        _run(["stage=sft", "sft.epoch=3"])
    with pytest.raises(AssertionError):
        _run(["ppo.minibatches=7"])
    with pytest.raises(AssertionError):
        _verb("explane", ["loss"])


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/(\w+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


STEMS = {field.path.split(".")[0] for field in keys.every() if "." in field.path}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_and_metric_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in re.findall(r"(?<![\w./+~-])([a-z_]+(?:\.[a-z_<>]+)+)(?=$|=|\s)", quoted):
            if word.split(".")[0] in STEMS and not re.search(r"\.(md|py|yaml|jsonl?|csv)$", word):
                assert any(key.about(word) for key in keys.every()), word
        if re.fullmatch(r"(eval|objective|policy|val|rewards?|response|baseline|time|mem|grad_norm)/[\w/<>]+", quoted):
            assert any(row.about(quoted) for row in pages.metrics()), quoted
