"""Which stages a trial consists of: ``python -m launchers.identify FOLDER ...`` says it of frozen trials, as JSON.

The answer is a list in the order of the folders. Each entry is ``{"fault": ...}``, where data or reward will not do, too, or
``{"stages": [...]}``, parents first and the trial's own stage last: ``name`` (``lineage.parents``), ``stage``,
``result_signature``, ``run_signature``, ``folder`` of the run, ``finished`` (it need not be run), and ``parents``, the names
of what it starts from without those the user has given.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from launchers.trial import read_config
from rlhf.fault import Fault
from rlhf.shelf import Shelf


def main(folders: list[str]) -> int:
    """Print the answer, and nothing else, to standard output."""
    shelf = Shelf()  # what several of them start from is checked once
    with redirect_stdout(sys.stderr):
        answer = [_of(Path(folder), shelf) for folder in folders]
    print(json.dumps(answer))
    return 0


def _of(folder: Path, shelf: Shelf) -> dict[str, Any]:
    from rlhf import chain  # torch is imported from here on

    try:
        run = read_config(folder)
        links = chain.links(run, shelf)
        chain.foresee(run, links)
    except Fault as fault:
        return {"fault": str(fault)}
    stages = [
        {
            "name": link.name,
            "stage": link.identity.stage,
            "result_signature": link.identity.result_signature,
            "run_signature": link.identity.run_signature,
            "folder": str(link.identity.folder),
            "finished": link.finished,
            "parents": link.parents,
        }
        for link in links
    ]
    return {"stages": stages}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
