"""From an argument list to an exit code. Nothing here imports torch before the configuration is known to be sound."""

import difflib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from rlhf import __version__, checks, config, idle, page, preflight
from rlhf.outside import Launcher, without_local_rank

EXIT_OK, EXIT_FAILED, EXIT_FAULTS, EXIT_INFEASIBLE, EXIT_STOPPED = 0, 1, 2, 3, 75


@dataclass(frozen=True)
class Verb:
    """A word that can stand first on the command line, and the module whose ``main`` serves it."""

    module: str
    use: str


VERBS = {
    "explain": Verb("rlhf.explain.answer", "what a key, a metric or a term means: explain WORD [key=value ...]"),
    "plan": Verb(
        "sweeps.plan_command", "what a study or a run would start, and what that may take: plan [sweep=NAME] [key=value ...]"
    ),
    "study": Verb("sweeps.answer.command", "the answer of a study, live while it runs, and its report.html anew: study DIR"),
    "report": Verb("rlhf.report.page", "write report.html of a run anew: report RUN"),
    "compare": Verb(
        "rlhf.compare.command", "what sets runs apart and what came of it: compare RUN RUN ... [--html FILE] [--json]"
    ),
    "doctor": Verb(
        "rlhf.doctor.command", "what a run's record says is wrong with it, and the knob to turn: doctor RUN [--json]"
    ),
    "invariants": Verb(
        "rlhf.invariants.command",
        "whether what is learnt depends on how it is computed: invariants stage=STAGE [key=value ...] [only=NAME,...]",
    ),
    "replay": Verb(
        "rlhf.replay.command", "one recorded update again, under other settings: replay CAPSULE [key=value ...] [--json]"
    ),
    "sync": Verb("rlhf.tracking.sync", "send what W&B kept offline, each step once: sync [DIR ...] [workspace=true]"),
    "chat": Verb("rlhf.chat.terminal", "talk to a run, or to two side by side: chat RUN [RUN2] [key=value ...]"),
    "reproduce": Verb(
        "rlhf.reproduce", "run a run again from its own configuration and compare: reproduce RUN [key=value ...]"
    ),
}


def main(arguments: list[str]) -> int:
    """Serve help, a verb, or a run; return the exit code."""
    if (launcher := Launcher.left()) is not None:
        if launcher.rank > 0:
            return EXIT_OK
        arguments = without_local_rank(arguments)
    if arguments and arguments[0].isidentifier():
        return _verb(arguments[0], arguments[1:])
    if {"--help", "-h"} & set(arguments):
        print(page.render())
        return EXIT_OK
    if "--version" in arguments:
        print(f"rlhf {__version__}")
        return EXIT_OK
    config.register()
    parser = get_args_parser()
    parser.prog = "rlhf"
    flags, unknown = parser.parse_known_intermixed_args(arguments)
    shown: config.Run | None = None
    if not (flags.hydra_help or flags.shell_completion):
        faults = [*(f"{flag}: there is no such option; see --help" for flag in unknown), *_flag_faults(flags)]
        own = Path(flags.config_dir) if flags.config_dir and Path(flags.config_dir).is_dir() else None
        study = flags.multirun or (preflight.chooses_study(flags.overrides) and not (flags.cfg or flags.info))
        checked = preflight.check(flags.overrides, study, own)
        if faults + checked.faults:
            return report_faults(faults + checked.faults)
        for override in flags.overrides:
            arguments = _without(arguments, override)
        if study and not flags.multirun:
            arguments = ["--multirun", *arguments]
        overrides = [*flags.overrides, *checked.companions]
        if study and checked.ours:
            preflight.study, overrides = overrides, [each for each in overrides if each.lstrip("+~").startswith("hydra")]
        arguments = [*overrides, *arguments]  # Hydra wants all overrides side by side
        if checked.companions and not (flags.cfg or flags.info):
            print("usual companions: " + " ".join(checked.companions))
        assert checked.composed is not None
        first = _typed(checked.composed)
        for line in idle.settings(first, flags.overrides, study):
            print(line, file=sys.stderr)
        shown = first if flags.cfg else None
    sys.argv = [sys.argv[0], *arguments]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # our own faults never reach Hydra; what does is a bug worth a traceback
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="config")
    def task(composed: DictConfig) -> None:
        codes.append(run(composed, launcher))

    task()
    if shown is not None and (faults := checks.faults(shown)):
        codes.append(report_faults(faults))
    return max(codes, default=EXIT_OK)


def _typed(composed: DictConfig) -> config.Run:
    run_config = OmegaConf.to_object(composed)
    assert isinstance(run_config, config.Run)
    return run_config


def _flag_faults(flags: Namespace) -> Iterator[str]:
    """What Hydra would answer with a traceback, or what would bypass the checks."""
    manners = [name for name in ("run", "multirun", "cfg", "info") if getattr(flags, name)]
    if len(manners) > 1:
        yield f"{' '.join('--' + name for name in manners)}: use one of them at a time"
    if flags.config_dir is not None:
        own = Path(flags.config_dir)
        if not own.is_dir():
            yield f"--config-dir={own}: there is no such folder; name one that holds options of your own, as data/mine.yaml"
        for file in sorted(own.rglob("*.yaml")):
            if (config.CONF / file.relative_to(own)).exists():
                yield f"--config-dir={own}: {file.relative_to(own)} has the name of a built-in option; give it another"
    for flag in ("config_name", "config_path", "experimental_rerun"):
        if getattr(flags, flag) is not None:
            yield f"--{flag.replace('_', '-')}: is not used; choose options as group=option, your own with --config-dir"
    if flags.resolve and not flags.cfg:
        yield "--resolve: goes with --cfg job"


def _without(arguments: list[str], taken: str) -> list[str]:
    at = arguments.index(taken)
    return arguments[:at] + arguments[at + 1 :]


def run(composed: DictConfig, launcher: Launcher | None = None) -> int:
    """Check the composed configuration across fields, and against what was started around it, and run its stage."""
    run_config = _typed(composed)
    faults = [*(launcher.faults(run_config.ranks) if launcher is not None else []), *checks.faults(run_config)]
    if faults:
        return report_faults(faults)
    from rlhf import chain  # torch is imported from here on

    return chain.main(run_config)


def report_faults(faults: list[str]) -> int:
    """Print every fault, one a line, and return the exit code for a faulty configuration."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    print(f"{count} in the configuration; nothing was started.", file=sys.stderr)
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return EXIT_FAULTS


def _verb(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"verbs: {', '.join(VERBS)}; a setting is written key=value"
        return report_faults([f"{verb}: not a verb; {hint}"])
    if {"--help", "-h"} & set(arguments):
        what, _, use = VERBS[verb].use.partition(": ")
        print(f"python -m rlhf {use}\n  {what} (docs/command_line.md)")
        return EXIT_OK
    serve: Callable[[list[str]], int] = import_module(VERBS[verb].module).main  # only the one that is wanted
    return serve(arguments)
