"""A person's own reward: a function in a Python file, named on purpose as ``my.py:score``."""

import ast
import hashlib
import importlib.util
import inspect
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


def looked_at(path: str) -> None:
    """See, without running it, that the file is Python and that something in it is called as the function.

    Raises:
        Fault: it is not.
    """
    file, function = split(path)
    try:
        tree = ast.parse(file.read_bytes(), file.name)
    except (SyntaxError, ValueError) as error:
        raise Fault(f"reward.path={path}: {file} is no Python ({error}); mend it") from error
    names = {name for node in ast.walk(tree) for name in (getattr(node, "name", None), getattr(node, "asname", None))}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    if function not in names and "*" not in names:  # of `from somewhere import *`
        raise Fault(f"reward.path={path}: {file} has no function {function}; {_define(function)}")


def digest(path: str) -> str:
    """What names the reward in signatures: of the file's content and the function's name, as 16 hex digits."""
    file, function = split(path)
    return hashlib.sha256(function.encode() + b"\0" + file.read_bytes()).hexdigest()[:16]


def load_function(path: str) -> Callable[..., Any]:
    """The function ``path`` names; its file's folder can be imported from.

    Raises:
        Fault: the file cannot be run, or has no such function, or one that takes other arguments.
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
        raise Fault(f"reward.path={path}: {file} has no function {function}; {_define(function)}")
    try:
        inspect.signature(found).bind([], [], [])
    except TypeError as error:
        raise Fault(
            f"reward.path={path}: {function} does not take prompts, responses and solutions ({error}); {_define(function)}"
        ) from error
    except ValueError:  # built in, without a signature to look at
        pass
    return found


def _define(function: str) -> str:
    return f"define {function}(prompts, responses, solutions)"
