"""The one entry point: a verb, or preflight, then Hydra composes and the stage runs. No logic of its own."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "launchers"))  # where Hydra finds our sweeper in a plain checkout


def main() -> int:
    """Run the command line and return its exit code (see docs/command_line.md)."""
    try:
        from rlhf import command_line  # after the path is set

        return command_line.main(sys.argv[1:])
    except KeyboardInterrupt:  # a run that has begun answers it itself
        print("stopped before anything began", file=sys.stderr)
        return 75


if __name__ == "__main__":
    sys.exit(main())
