"""Write down what an installed TRL computes, for ``test_trl.py``, which then needs none.

    pip install --no-deps --target trl-1.16 trl==1.16.0 && PYTHONPATH=.:trl-1.16 python tests/comparison/record.py
    pip install --no-deps --target trl-1.12 trl==1.12.0 && PYTHONPATH=.:trl-1.12 python tests/comparison/record.py

Two versions, because the PPO trainer was taken out after 1.12.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.comparison.inputs import rounded

RECORDED = {"1.16.0": "trl_losses", "1.12.0": "trl_ppo"}
"""Version of TRL, and the module here that drives it."""


def path(release: str) -> Path:
    """The file of a version."""
    return Path(__file__).parent / f"trl-{release}.json"


def measure(release: str) -> Any:
    """What the installed TRL, which must be ``release``, says of the inputs."""
    torch.set_num_threads(1)
    if RECORDED[release] == "trl_ppo":
        from tests.comparison import trl_ppo as driver
    else:
        from tests.comparison import trl_losses as driver
    return rounded(driver.record())


def main() -> int:
    """Record the installed version."""
    release = version("trl")
    if release not in RECORDED:
        print(f"trl=={release}: there is nothing to record; install one of {', '.join(RECORDED)}", file=sys.stderr)
        return 2
    about = {"trl": release, "torch": torch.__version__, "transformers": transformers.__version__}
    path(release).write_text(json.dumps({"made with": about, "measured": measure(release)}, indent=1) + "\n")
    print(f"{path(release)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
