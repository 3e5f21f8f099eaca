"""The command line as a user meets it. What can be seen without a process is asked of the functions behind it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import rlhf.__main__
from rlhf import command_line, config, page, preflight, result

Ended = subprocess.CompletedProcess[str]
ROOT = Path(rlhf.__file__).parent.parent
Shell = Callable[..., Ended]


@pytest.fixture(autouse=True)
def schema() -> None:
    config.register()


def composed(ended: Ended) -> DictConfig:
    assert ended.returncode == 0, ended.stderr
    parsed = OmegaConf.create(ended.stdout)
    assert isinstance(parsed, DictConfig)
    return parsed


# from the shell


def test_help_is_our_own_page_wherever_it_is_asked_for(shell: Shell) -> None:
    ended = shell("sft.epochs=3", "--help")
    assert ended.returncode == 0
    assert ended.stdout.strip() == page.render().strip()


@pytest.mark.parametrize("verb", command_line.VERBS)
def test_a_verb_shows_its_use_and_is_on_the_page(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([verb, "--help"], [verb, "some", "-h"]):
        assert command_line.main(words) == command_line.EXIT_OK
        assert capsys.readouterr().out.startswith(f"python -m rlhf {verb} ")
    assert f"  python -m rlhf {verb} " in page.render()


@pytest.mark.parametrize("recipe", ["smoke", "overfit"])
def test_a_tracker_that_is_typed_wins_over_a_recipe_for_debugging(recipe: str) -> None:
    for typed, kind in (([], "none"), (["tracker=wandb"], "wandb"), (["tracker.kind=wandb"], "wandb")):
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            assert compose("config", [f"debug={recipe}", *typed]).tracker.kind.name == kind


def test_zero_is_a_key_and_nothing_is_written_by_looking(shell: Shell, tmp_path: Path) -> None:
    run = composed(shell("zero=2", "--cfg", "job"))
    assert str(run.zero) == "2"
    assert list(tmp_path.iterdir()) == []


def test_a_model_alone_brings_its_usual_companions(shell: Shell) -> None:
    run = composed(shell("--cfg", "job", "model=opt1.3b"))  # flags before overrides work too
    assert (run.model.name, run.reward_model.name, run.data.name) == ("opt1.3b", "opt350m", "rm_static")
    assert run.sft.learning_rate == OmegaConf.load(config.CONF / "sft/default.yaml").learning_rate


def test_a_configuration_with_faults_is_shown_and_named(shell: Shell, tmp_path: Path) -> None:
    ended = shell("stage=sft", "rm.epochs=2", "sft.micro_batch_size=7", "--cfg", "job")
    assert ended.returncode == command_line.EXIT_FAULTS
    assert OmegaConf.create(ended.stdout).sft.micro_batch_size == 7
    idle, count, fault = ended.stderr.splitlines()
    assert idle.startswith("rm.epochs=2: has no effect on what is trained here: sft")
    assert count.startswith("1 fault") and "sft.micro_batch_size=7 does not divide" in fault
    assert list(tmp_path.iterdir()) == []


def test_info_defaults_tells_where_values_come_from(shell: Shell) -> None:
    ended = shell("--info", "defaults")
    assert ended.returncode == 0
    rows = [[cell.strip() for cell in line.split("|")][1:3] for line in ended.stdout.splitlines() if line.startswith("| ")]
    assert ["data/demo", "data"] in rows and ["model/tiny", "reward_model"] in rows


def test_all_faults_in_one_screen(shell: Shell, tmp_path: Path) -> None:
    ended = shell("sft.epoch=5", "zero=7", "+foo=1", "model=opt12m", "stage=sft,ppo", "rm.learning_rate=-1")
    assert ended.returncode == command_line.EXIT_FAULTS
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    first, *faults = ended.stderr.splitlines()
    assert first.startswith("6 faults") and len(faults) == 6
    for key, rule in {
        "sft.epoch=5": "did you mean `sft.epochs`?",
        "zero=7": "[none, 0, 1, 2, 3]",
        "+foo=1": "there is no key `foo`, and keys cannot be added",
        "model=opt12m": "did you mean `opt125m`?",
        "stage=sft,ppo": "add -m",
        "rm.learning_rate=-1.0": "above 0",
    }.items():
        assert any(fault.strip().startswith(key + ":") and rule in fault for fault in faults), (key, faults)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["sft.epoch=5", "zero=7"],
        ["ppo.minibatches=7"],
        ["--cfg", "job"],
        ["-m", "stage=sft", "sft.micro_batch_size=32,7"],
        ["report", "nowhere"],
        ["reproduce", "nowhere"],
        ["chat", "nowhere"],
    ],
    ids=" ".join,
)
def test_nothing_loads_torch_before_a_run_is_sound(arguments: list[str], root: Path) -> None:
    program = (
        "import sys; from rlhf import __main__, command_line\n"
        f"try: code = command_line.main({arguments!r})\n"
        "except SystemExit as end: code = end.code\n"
        "import json\n"
        "print(); print(json.dumps([code, sorted({'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules))]))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    code, loaded = json.loads(ended.stdout.splitlines()[-1])
    assert code == (0 if arguments[0].startswith("--") else 2), ended.stderr
    assert loaded == []
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rlhf model=opt", {"model=opt1.3b", "model=opt125m", "model=opt350m"}),
        ("rlhf stage=sft sft.ep", {"sft.epochs="}),
        ("rlhf data=alp", {"data=alpaca", "data=alpaca_gpt4"}),
    ],
)
def test_completion_as_the_shell_asks_for_it(typed: str, offered: set[str], shell: Shell) -> None:
    ended = shell("-sc", "query=bash", COMP_LINE=typed, COMP_POINT=str(len(typed)))
    assert offered <= set(ended.stdout.split()), ended.stderr
    assert all(word.startswith(typed.split()[-1]) for word in ended.stdout.split())


# without a process


def faults(*overrides: str, multirun: bool = False) -> list[str]:
    return preflight.check(list(overrides), multirun).faults


def test_a_grid_over_zero_is_sound() -> None:
    assert faults("stage=sft", "zero=0,1", multirun=True) == []
    (fault,) = faults("stage=sft", "zero=0,1")
    assert fault == "zero=0,1: several values; add -m to run them all, or quote the text"


def test_each_value_of_a_grid_is_tried() -> None:
    assert [fault.split(":")[0] for fault in faults("zero=0,8,9", "model=tiny,tinny", multirun=True)] == [
        "model=tinny",
        "zero=8",
        "zero=9",
    ]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("sft.lr=1e-3", "there is no key `sft.lr`; did you mean `sft.learning_rate`?"),
        ("learning_rate=1e-3", "there is no key `learning_rate`; did you mean `rm.learning_rate`?"),
        ("debgu=smoke", "there is no key `debgu`; did you mean `debug`?"),
        ("+sed=2", "there is no key `sed`, and keys cannot be added; did you mean `seed`?"),
        ("+seed=2", "the key exists; write seed=... without `+`"),
        ("++seed=2", "the key exists; write seed=... without `++`"),
        ("~seed", "only a source can be removed"),
        ("+model=tiny", "an option is chosen, not added or removed"),
        ("sft.epochs=abc", "could not be converted to Float"),
        ("seed=1.5", "could not be converted to Integer"),
        ("sft.epochs=[1", "not an override; write key=value"),
        ("foo", "not an override; write key=value"),
        ("hydra.foo=1", "Key 'foo' not in 'HydraConf'"),
        ("model.usual.data=demo", "choose the group itself"),
        (
            "data.sources.mine.path=x.jsonl",
            "there is no source `mine` in this mix; add it before: +source@data.sources.mine=default",
        ),
        ("data.sources.alpaca.cap=5", "add it before: +source@data.sources.alpaca=alpaca"),
        ("data=alpacca", "conf/data has no such option; did you mean `alpaca`?"),
        ("+source@data.sources.a=alpacca", "conf/source has no such option; did you mean `alpaca`?"),
        ("source=alpaca", "write +source@data.sources.NAME=OPTION"),
        ("data.sources.prompts.keep={lang: [de]}", "holds names of your own; write +data.sources.prompts.keep={lang: [de]}"),
        ("+source@data=alpaca", "write +source@data.sources.NAME=OPTION"),
        ("+data.sources={mine: {pth: x}}", "Key 'pth' not in 'SourceConfig'"),
    ],
)
def test_a_fault_says_what_to_do(override: str, fault: str) -> None:
    (found,) = faults(override)
    assert fault in found


def test_a_continuous_range_is_refused_before_the_study() -> None:
    (found,) = faults("stage=sft", "sft.learning_rate=interval(1e-5,1e-3)", multirun=True)
    assert "a continuous range has no grid" in found


def test_what_a_person_must_say_is_asked_for() -> None:
    assert faults("model=custom") == [
        "model.path: needs a value; write model.path=...",
        "reward_model.path: needs a value; write reward_model.path=...",
    ]
    assert faults("model=custom", "model.path=here", "reward_model.path=there") == []


def test_a_source_can_be_added_and_removed_by_name() -> None:
    added = ["+source@data.sources.mine=default", "data.sources.mine.path=my.jsonl", "data.sources.mine.weight=2"]
    assert faults(*added, "~data.sources.prompts") == []


def test_columns_and_values_of_ones_own_are_added_to_a_source() -> None:
    added = ["+data.sources.prompts.columns={prompt: question.text}", "+data.sources.prompts.keep.lang=[de]"]
    assert faults(*added, "data.sources.prompts.columns.prompt=text") == []


def test_an_option_asked_for_beats_the_usual_one() -> None:
    assert preflight.check(["model=opt1.3b", "data=demo", "reward_model=tiny"]).companions == [
        f"{group}=default"
        for group in ("pretrain", "sft", "rm", "ppo", "dpo", "kto", "rloo", "grpo", "best_of_n", "rollout", "evaluation")
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["studdy", "outputs"], "studdy: not a verb; did you mean `study`?"),
        (["train", "model=tiny"], "train: not a verb; verbs: explain, plan, study"),
        (["--halp"], "--halp: there is no such option; see --help"),
        (["-m", "--cfg", "job"], "--multirun --cfg: use one of them at a time"),
        (["--config-dir", "/nowhere"], "--config-dir=/nowhere: there is no such folder"),
        (["--config-name", "other"], "--config-name: is not used"),
        (["--experimental-rerun", "config.pickle"], "--experimental-rerun: is not used"),
        (["--resolve"], "--resolve: goes with --cfg job"),
        (["hydra.run.dir=${nope}"], "Interpolation key 'nope' not found"),
    ],
)
def test_a_wrong_word_is_a_fault(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(arguments) == command_line.EXIT_FAULTS
    assert fault in capsys.readouterr().err


def test_ctrl_c_before_anything_began_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "main", interrupt)
    assert rlhf.__main__.main() == command_line.EXIT_STOPPED
    assert capsys.readouterr().err == "stopped before anything began\n"


def test_options_of_ones_own_stand_beside_the_built_in_ones(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "own/data").mkdir(parents=True)
    (tmp_path / "own/data/mine.yaml").write_text("defaults: [demo]\nname: mine\n")
    run = composed(shell("--config-dir", "own", "data=mine", "--cfg", "job"))
    assert run.data.name == "mine" and "demonstrations" in run.data.sources


def test_an_option_of_ones_own_cannot_hide_a_built_in_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo.yaml").write_text("name: mine\n")
    assert command_line.main(["--config-dir", str(tmp_path), "data=demo"]) == command_line.EXIT_FAULTS
    assert "data/demo.yaml has the name of a built-in option" in capsys.readouterr().err


def page_on_commands() -> str:
    return (ROOT / "docs/command_line.md").read_text()


def test_the_page_on_commands_has_every_verb() -> None:
    for verb in command_line.VERBS:
        assert f"python -m rlhf {verb}" in page_on_commands()


def test_the_page_on_commands_shows_the_faults_as_they_are() -> None:
    for fault in faults("sft.epoch=5", "zero=7"):
        assert f"\n  {fault}\n" in page_on_commands()


def test_the_page_on_commands_names_only_keys_that_exist() -> None:
    rows = page_on_commands().split("## Keys people type")[1].split("\n## ")[0].replace("<name>", "mine").splitlines()
    named = set()
    for row in rows:
        if row.startswith("| ") and not row.startswith("| about"):
            _, about, keys, _ = row.split("|")
            for prefix in re.findall(r"`([\w.]+\.)`", about) or [""]:
                named |= {prefix + key for key in re.findall(r"`([\w.]+)[`=]", keys)}
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        run = compose(
            "config", ["data=local", "data.sources.mine.path=x", "sft=default", "rm=default", "ppo=default", "rollout=default"]
        )
    assert len(named) > 40
    assert [key for key in sorted(named) if OmegaConf.select(run, key, default="absent") == "absent"] == []


def test_the_page_on_commands_has_every_exit_code() -> None:
    for status, code in result.EXIT_CODES.items():
        if status.name not in ("pruned", "lost"):  # a study's words for its trials
            assert re.search(rf"^\| {code} \|.*\| `{status.name}` \|$", page_on_commands(), re.MULTILINE), status


def test_options_with_a_dot_are_offered_like_all_others() -> None:
    (fault,) = preflight.check(["model=nonsense"]).faults
    assert "opt1.3b" in fault and "opt125m" in fault
    (fault,) = preflight.check(["model=opt1.3"]).faults
    assert "did you mean `opt1.3b`?" in fault
