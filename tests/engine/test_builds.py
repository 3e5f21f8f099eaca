"""What DeepSpeed compiles: announced once, and a lock that a killed build left behind is named instead of waited for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.engine import builds
from rlhf.fault import Fault


def test_a_build_is_announced_until_it_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builds.announce("async_io", tmp_path)
    assert f"compiling DeepSpeed's async_io in {tmp_path}: this takes minutes, once" in capsys.readouterr().out
    (tmp_path / "async_io.so").touch()
    builds.announce("async_io", tmp_path)
    assert capsys.readouterr().out == ""


def test_a_lock_is_waited_for_while_its_owner_lives_and_reported_when_it_is_gone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    own = "import os, sys; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('locked', flush=True); sys.stdin.read()"
    owner = subprocess.Popen([sys.executable, "-c", own, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline()
    builds.announce("async_io", tmp_path)  # another process builds: nothing to complain of
    owner.kill()
    owner.wait()
    with pytest.raises(Fault, match=r"lock: left behind by a build that was killed; .* remove it \(rm "):
        builds.announce("async_io", tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="who holds a file is read from /proc")
def test_the_command_names_a_stale_lock_instead_of_hanging(tmp_path: Path) -> None:
    code = (
        "from rlhf.engine.builds import watch_builds; watch_builds(); watch_builds()\n"
        "from deepspeed.ops.op_builder.builder import OpBuilder\n"
        "class Part(OpBuilder):\n"
        "    def absolute_name(self): return 'part'\n"
        "    def sources(self): return []\n"
        "    def is_compatible(self, verbose=False): return True\n"
        "Part('part').jit_load()"
    )
    (tmp_path / "part").mkdir()
    (tmp_path / "part/lock").touch()
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path), "DS_ACCELERATOR": "cpu"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "part/lock: left behind by a build that was killed" in ended.stderr
