"""DeepSpeed compiles some of its parts when they are first used: announced, and never waited for in vain.

A build that is killed leaves a lock behind, for which torch would wait without a word and without an end.
"""

import os
from functools import wraps
from pathlib import Path
from typing import Any

from deepspeed.ops.op_builder.builder import OpBuilder
from torch.utils.cpp_extension import _get_build_directory

from rlhf.fault import Fault


def watch_builds() -> None:
    """From here on, each part that is about to be compiled is announced, and a lock that nobody holds is a ``Fault``."""
    compile_part = OpBuilder.jit_load
    if hasattr(compile_part, "__wrapped__"):
        return

    @wraps(compile_part)
    def watched(self: Any, verbose: bool = False) -> Any:
        announce(self.name, Path(_get_build_directory(self.name, verbose=False)))
        return compile_part(self, verbose)

    OpBuilder.jit_load = watched


def announce(name: str, folder: Path) -> None:
    """Say that ``name`` is compiled in ``folder``, unless it is there.

    Raises:
        Fault: a lock is in the way whose owner is gone.
    """
    lock = folder / "lock"
    if lock.exists() and not _held(lock):
        raise Fault(
            f"{lock}: left behind by a build that was killed; DeepSpeed would wait for it for ever: "
            f"remove it (rm {lock}), unless another machine is compiling in this folder"
        )
    if not (folder / f"{name}.so").exists() and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"compiling DeepSpeed's {name} in {folder}: this takes minutes, once", flush=True)


def _held(lock: Path) -> bool:
    """Whether a process of this machine has the lock open, as its owner does while it builds; true where it cannot be told."""
    if not Path("/proc/self/fd").is_dir() or lock.stat().st_uid not in (os.getuid(), os.geteuid()):
        return True
    wanted = lock.resolve()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if Path(os.readlink(descriptor)) == wanted:
                return True
        except OSError:  # it ended while we looked, or is another's
            continue
    return False
