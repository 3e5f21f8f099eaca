"""``python -m launchers.page FOLDER`` writes the ``report.html`` of the run in FOLDER, with the manners of a background job."""

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from rlhf.report import page

NICE = 10


def main(arguments: list[str]) -> int:
    """Print the folder as JSON to standard output, and nothing else."""
    os.nice(NICE)
    with redirect_stdout(sys.stderr):
        page.write_or_warn(Path(arguments[0]))
    print(json.dumps(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
