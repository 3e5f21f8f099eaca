"""The wheel composes from elsewhere: configuration, sweeper and command are inside."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

Ended = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """Runs a program of an environment whose path starts with the installed wheel, in an empty folder."""
    target, empty = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("empty")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)

    def run(*arguments: str) -> Ended:
        program = [sys.executable, *([str(target / "bin" / "rlhf")] if arguments[0] == "rlhf" else [arguments[0]])]
        environment = {**os.environ, "PYTHONPATH": str(target), "TARGET": str(target)}
        return subprocess.run([*program, *arguments[1:]], cwd=empty, env=environment, capture_output=True, text=True)

    return run


def test_the_wheel_holds_the_tree(wheel: Path, root: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tree = {file.relative_to(root / "conf") for file in (root / "conf").rglob("*.yaml")}
    assert {f"rlhf/conf/{file}" for file in tree if file.parts[0] != "local"} == {name for name in inside if "conf/" in name}
    assert {"hydra_plugins/rlhf_sweeper.py", "rlhf/report/page.html", "rlhf/report/style.css"} <= inside
    assert {name for name in inside if name.endswith(".md") and "dist-info" not in name} == {
        "rlhf/docs/glossary.md",
        "rlhf/docs/metrics.md",
    }
    assert {name.split("/")[0] for name in inside} == {"rlhf", "sweeps", "launchers", "hydra_plugins", "rlhf-0.1.0.dist-info"}
    assert not any("hydra_plugins" in name for name in inside if name.startswith("launchers/"))  # once, or Hydra lists it twice


def test_everything_comes_from_the_wheel(installed: Callable[..., Ended]) -> None:
    program = (
        "import os, rlhf.config, sweeps, launchers, hydra_plugins.rlhf_sweeper as sweeper\n"
        "for path in (rlhf.config.CONF, sweeps.__file__, launchers.__file__, sweeper.__file__):\n"
        "    assert str(path).startswith(os.environ['TARGET']), path"
    )
    ended = installed("-c", program)
    assert ended.returncode == 0, ended.stderr


def test_the_installed_command_composes_from_elsewhere(installed: Callable[..., Ended]) -> None:
    ended = installed("rlhf", "model=opt1.3b", "--cfg", "job", "--package", "reward_model")
    assert ended.returncode == 0, ended.stderr
    assert "name: opt350m" in ended.stdout


def test_the_installed_command_finds_the_sweeper_once(installed: Callable[..., Ended]) -> None:
    plugins = installed("rlhf", "--info", "plugins")
    assert plugins.stdout.split().count("RlhfSweeper") == 1, plugins.stderr
    faulty = installed("rlhf", "-m", "stage=sft", "sft.micro_batch_size=32,7")
    assert faulty.returncode == 2 and "sft.micro_batch_size=7" in faulty.stderr


def pins(root: Path) -> dict[str, Version]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # exact, and for machines with and without a GPU
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_every_requirement_is_pinned_to_a_version_it_allows(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pinned = pins(root)
    for text in project["dependencies"] + project["optional-dependencies"]["test"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_whatever_a_dependency_needs_is_pinned_too(root: Path) -> None:
    pinned, there = pins(root), {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    for name in pinned.keys() & there:
        for text in metadata.distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                assert needed in pinned or needed.startswith(("nvidia-", "cuda-", "triton")), f"{name} needs {needed}"


def test_readme_has_one_line_to_run_and_one_to_test(root: Path) -> None:
    lines = [line for line in (root / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    run, test = lines
    assert "-c constraints.txt" in run and run.endswith("python -m rlhf")
    assert "-c constraints.txt" in test and test.endswith("python -m pytest") and '".[test]"' in test
