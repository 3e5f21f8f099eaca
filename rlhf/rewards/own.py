"""A person's own reward: a function in a Python file, named on purpose as ``my.py:score``."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.fault import Fault


def split(path: str) -> tuple[Path, str]:
    """File and function of ``my.py:score``.

    Raises:
        Fault: it is not written so, or there is no such file.
    """
    file, colon, function = path.rpartition(":")
    if not colon or not function.isidentifier() or not file.endswith(".py"):
        raise Fault(f"reward.path={path}: write the file, a colon and the function, as in my.py:score")
    if not Path(file).is_file():
        raise Fault(f"reward.path={path}: there is no file {file}; give its path from here, or in full")
    return Path(file), function


def digest(path: str) -> str:
    """What names the reward in signatures: of the file's content and the function's name, as 16 hex digits."""
    file, function = split(path)
    return hashlib.sha256(function.encode() + b"\0" + file.read_bytes()).hexdigest()[:16]


def load_function(path: str) -> Callable[..., Any]:
    """The function ``path`` names; its file's folder can be imported from.

    Raises:
        Fault: the file cannot be run, or has no such function.
    """
    file, function = split(path)
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    specification = importlib.util.spec_from_file_location(f"own_reward_{file.stem}", file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # whatever a person's file may raise
        raise Fault(f"reward.path={path}: {file} fails with {type(error).__name__}: {error}; mend it") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise Fault(f"reward.path={path}: {file} has no function {function}; define {function}(prompts, responses, solutions)")
    return found
