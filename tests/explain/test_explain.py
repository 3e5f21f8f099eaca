"""`explain` knows every key, every metric and every term, and tells them in the numbers of the run."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import DictConfig

import rlhf
from rlhf import config
from rlhf.explain import answer, figures, keys, pages
from rlhf.overrides import apply

SOURCES = Path(rlhf.__file__).parent
METRIC = re.compile(
    r"(eval|objective|policy|val|loss|rewards?|response|baseline|perf|progress|time|mem|grad_norm|learning_rate|ema)/\w+(/\w+)*"
)
COUNTED_ONLY = {"perf/tokens"}
"""Added up for other metrics, in no record."""


@cache
def run(*options: str) -> DictConfig:
    composed = answer.compose(list(options))
    assert isinstance(composed, DictConfig), composed
    return composed


def explained(word: str, *overrides: str) -> str:
    options = [text for text in overrides if text.startswith(("model=", "lora=", "data=", "+"))]
    composed = run(*options).copy()
    apply(composed, [text for text in overrides if text not in options], "")  # quicker than to compose it again
    return "\n\n".join(answer.explain(word, composed))


def schema() -> list[str]:
    """Every field's path, by a walk of its own."""
    found, waiting = [], [("", config.Run)]
    while waiting:
        prefix, each = waiting.pop()
        hints = {name: str(hint) for name, hint in each.__annotations__.items()}
        for field in dataclasses.fields(each):
            found.append(prefix + field.name)
            for name, inner in vars(config).items():
                hint = hints.get(field.name, "")
                if dataclasses.is_dataclass(inner) and isinstance(inner, type) and re.search(rf"\b{name}\b", hint):
                    waiting.append((prefix + field.name + (".<name>." if "dict" in hint else "."), inner))
    return found


def test_every_field_of_the_schema_has_a_meaning() -> None:
    paths = {key.path for key in keys.every()}
    assert len(schema()) > 200 and set(schema()) <= paths
    for key in keys.every():
        assert key.meaning and key.affects in keys.TOUCHES
        text = "\n".join(keys.lines(key, key.path, run()))
        assert text.startswith(key.path) and len(text.splitlines()) >= 2, text


def test_a_place_is_told_from_what_is_found_there() -> None:
    told = explained("reward.path")
    assert "touches content: says where something is; what is found there can change the weights" in told
    assert "system" not in told.rpartition("touches")[2]


def test_the_range_of_a_number_is_told() -> None:
    told = explained("ppo.gamma")
    assert told.startswith("ppo.gamma: number at least 0 and at most 1")


def test_every_metric_of_the_page_is_found() -> None:
    names = [name for row in pages.metrics() for name in row.names]
    assert {"reward/gain_low", "eval/accuracy_high/<source>", "mem/rollout_gib"} <= set(names)
    for name in names:
        assert len([row for row in pages.metrics() if name in row.names]) == 1, name
        assert explained(name)


def test_every_metric_in_the_code_is_on_the_page() -> None:
    written: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        written |= {text for text in texts if isinstance(text, str) and METRIC.fullmatch(text)}
    assert len(written) > 40
    assert {name for name in written - COUNTED_ONLY if not any(row.about(name) for row in pages.metrics())} == set()


def test_the_glossary_points_at_what_exists_and_says_everything_once() -> None:
    entries = pages.glossary()
    names = [pages.plain(name) for entry in entries for name in entry.names]
    assert len(names) == len(set(names))
    assert {"asha", "hyperband", "dominated", "infeasible"} <= {*names}  # what tables of a study say
    assert [pages.plain(entry.names[0]) for entry in entries] == sorted(pages.plain(entry.names[0]) for entry in entries)
    for entry in entries:
        assert entry.text, entry.names
        assert [key for key in entry.keys if not keys.find(key)] == [], entry.names
        assert [name for name in entry.metrics if not any(row.about(name) for row in pages.metrics())] == [], entry.names


def test_every_term_with_numbers_is_in_the_glossary() -> None:
    assert set(figures.TERMS) <= {pages.plain(entry.names[0]) for entry in pages.glossary()}


def test_a_key_is_told_with_its_value_here() -> None:
    text = explained("ppo.kl_coef", "ppo.kl_coef=0.3")
    assert "ppo.kl_coef: number" in text and "ppo.kl_coef = 0.3" in text
    assert "touches result" in text
    assert "touches system" in explained("sft.micro_batch_size")
    assert "one of none 0 1 2 3" in explained("zero")


def test_the_last_word_of_a_key_is_enough() -> None:
    assert {line.split(":")[0] for line in explained("micro_batch_size").splitlines() if line[0:1].strip()} >= {
        "sft.micro_batch_size",
        "ppo.micro_batch_size",
        "rollout.micro_batch_size",
    }


def test_a_group_shows_its_options_and_values() -> None:
    text = explained("lora", "lora=dim8")
    assert "lora=dim64" in text and "lora.dim = 8" in text
    assert "smollm2_polite" in explained("experiment")
    assert "docs/rm.md" in explained("reward model")


def test_a_key_of_a_source_is_told_for_the_sources_of_the_mix() -> None:
    with_alpaca = ["data=rm_static", "+source@data.sources.alpaca=alpaca", "data.sources.alpaca.cap=7"]
    assert "data.sources.alpaca.cap = 7" in explained("data.sources.alpaca.cap", *with_alpaca)
    every = explained("data.sources.elsewhere.cap", *with_alpaca)
    assert "data.sources.alpaca.cap = 7" in every and "data.sources.rm_static.cap" in every


def test_the_rule_that_a_value_breaks_is_shown() -> None:
    text = explained("ppo.minibatches", "ppo.minibatches=7")
    assert "fault: ppo.minibatches=7 does not divide ppo.batch_size=128" in text
    assert "in this run" not in explained("batch", "ppo.minibatches=0")


@pytest.mark.parametrize(
    ("term", "overrides", "figure"),
    [
        (
            "batch",
            ["model=opt125m", "stage=sft", "ranks=2", "zero=2"],
            "64 = 2 ranks × 8 in a micro-batch × 4 accumulation steps",
        ),
        ("Batch Size", ["stage=sft"], "32 = 1 rank × 32 in a micro-batch × 1 accumulation step"),
        (
            "epoch",
            ["stage=sft"],
            "3 × (training sequences / 32) steps, but no more than sft.max_steps = 350 of them (11,200 sequences)",
        ),
        ("iteration", [], "20 updates; each has 2 inner epochs × 2 minibatches = 4 optimizer steps, 80 in all"),
        ("rollout", [], "128 responses of up to 48 tokens, so at most 6,144 tokens a rollout"),
        ("rollout", ["rollout.micro_batch_size=32"], "128 = 1 rank × 32 sampled at once × 4 turns"),
        ("lora", ["lora.dim=16", "lora.alpha=32"], "output scaled by 32 / 16 = 2"),
        ("lora", ["lora.dim=16", "lora.alpha=32", "lora.rslora=true"], "output scaled by 32 / √16 = 8"),
        ("ZeRO", ["model=opt125m", "zero=2", "ranks=4"], "the optimizer's state and the gradients split over 4 ranks"),
        ("warm up", ["stage=sft", "sft.warmup_steps=20"], "from 0 to 0.003 over 20 steps"),
        ("KL", ["ppo.kl_target=6"], "moves until a response costs 6 nats"),
        ("chain", ["stage=rm", "rm.init=base"], "stage=rm: rm"),
        ("length", [], "up to 40 tokens of prompt + 48 of response = 88"),
    ],
)
def test_a_term_is_told_in_the_numbers_of_the_run(term: str, overrides: list[str], figure: str) -> None:
    assert figure in explained(term, *overrides)


def test_every_term_has_an_answer() -> None:
    for entry in pages.glossary():
        for name in entry.names:
            assert entry.text.split()[0] in explained(name), name


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("ppo.kl_coeff", "ppo.kl_coef"),
        ("objective/kk", "objective/kl"),
        ("rewardhacking", "reward hacking"),
        ("kl_coeff", "ppo.kl_coef"),
    ],
)
def test_a_word_that_is_nearly_right_is_mended(word: str, offered: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer.main([word]) == 2
    assert f"`{offered}`" in capsys.readouterr().err


def test_what_is_wrong_with_the_settings_or_missing_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer.main(["batch", "sft.epoch=5"]) == 2
    assert "did you mean `sft.epochs`?" in capsys.readouterr().err
    assert answer.main([]) == 2
    assert "takes a key" in capsys.readouterr().err


def test_it_answers_without_torch(root: Path) -> None:
    program = (
        "import sys, json; from rlhf import __main__, command_line\n"
        "code = command_line.main(['explain', 'epoch', 'stage=sft'])\n"
        "print(); print(json.dumps([code, sorted({'torch', 'transformers', 'datasets'} & set(sys.modules))]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert json.loads(ended.stdout.splitlines()[-1]) == [0, []], ended.stderr


def test_a_pages_form_is_read_as_it_is_meant() -> None:
    (entry,) = pages.glossary("# G\n\nhead\n\n## one, two\n\nFirst\nline.\n\nKeys: `a.b`, `c`\n")
    assert entry == pages.Entry(("one", "two"), "First line.", ("a.b", "c"))
    (row,) = pages.metrics(
        "| metric | unit | m | h | o |\n|---|---|---|---|---|\n| `a/b` (`_low`), `c/<source>` | x | y \\| z | – | w |\n"
    )
    assert row.names == ("a/b", "a/b_low", "c/<source>")
    assert row.about("a/b_low") and row.about("c/some") and row.about("c/<source>") and not row.about("c/")
