"""``python -m rlhf invariants stage=...``: five updates repeated in every way of computing them, a line an invariance."""

import difflib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rlhf import checks
from rlhf.command_line import EXIT_FAILED, EXIT_OK, report_faults
from rlhf.config import Precision, Run
from rlhf.explain.answer import compose
from rlhf.fault import Fault
from rlhf.sealed import make_folder, write_atomically

RECIPE, ONLY = "debug=invariants", "only="
UPDATES = 5
NAMES = ("micro-batches", "padding", "checkpointing", "log-probs", "KV cache", "resume", "ranks", "ZeRO", "offload", "packing")
RESULT = "invariants.json"


def main(arguments: list[str]) -> int:
    """Serve the verb; return 0 if nothing differs, 1 if something does or breaks, 2 for a fault."""
    overrides = [text for text in arguments if not text.startswith(ONLY)]
    wanted = [name for text in arguments if text.startswith(ONLY) for name in text.removeprefix(ONLY).split(",")]
    if faults := list(_word_faults(overrides, wanted)):
        return report_faults(faults)
    composed = compose([RECIPE, *overrides])
    if isinstance(composed, list):
        return report_faults(composed)
    return serve(composed, overrides, wanted)


def serve(composed: DictConfig, overrides: list[str], wanted: list[str]) -> int:
    """Try all invariances of a composed run, or those ``wanted``; the exit code."""
    run = OmegaConf.to_object(composed)
    assert isinstance(run, Run)
    if faults := [*checks.faults(run), *_run_faults(run)]:
        return report_faults(faults)
    try:
        return _try(run, composed, overrides, wanted)
    except Fault as fault:
        return report_faults([str(fault)])


def _word_faults(overrides: list[str], wanted: list[str]) -> Iterator[str]:
    for text in overrides:
        if "=" not in text:
            yield f"{text}: settings are written key=value; write python -m rlhf invariants stage=sft model=tiny"
        elif text.startswith("debug="):
            yield f"{text}: the verb brings its own sizes ({RECIPE}); leave it out, and set single keys"
    for name in wanted:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1, 0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"choose from {', '.join(NAMES)}"
            yield f"{ONLY}{name}: there is no such invariance; {hint}"


def _run_faults(run: Run) -> Iterator[str]:
    """What would make two computations of the same differ by design."""
    if run.precision is not Precision.fp32:
        yield f"precision={run.precision.name}: only in fp32 do all engines compute the same; leave it out"
    for key in ("model", "reward_model"):
        if dropout := getattr(run, key).dropout:
            yield f"{key}.dropout={dropout}: every way would draw other masks; leave it out"


def _try(run: Run, composed: DictConfig, overrides: list[str], wanted: list[str]) -> int:
    from rlhf.invariants.series import Series  # torch is imported from here on

    target = Path(run.paths.outputs) / "invariants" / f"{run.stage}-{run.model.name}"
    make_folder(target, "paths.outputs")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=target, prefix=".work-") as work:
        series = Series(run, composed, Path(work), UPDATES)
        print(series.head(), flush=True)
        for told in series.lines(wanted):
            print(f"{told.verdict.name.replace('_', ' '):<10} {told.invariance.name:<14} {told.text}", flush=True)
    content = {"overrides": overrides, **series.record(), "seconds": round(time.perf_counter() - began, 1)}
    write_atomically(target / RESULT, json.dumps(content, indent=2) + "\n")
    print(f"{series.summary()} In {content['seconds']:.0f} s; every figure is in {target / RESULT}.")
    return EXIT_OK if series.sound else EXIT_FAILED
