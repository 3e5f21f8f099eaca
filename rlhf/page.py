"""The page that ``--help`` prints, written from the configuration tree so that it cannot go stale."""

from rlhf.config import COMPANIONS, CONF, STAGES


def render() -> str:
    """Return the help page."""
    groups = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    width = max(len(group.name) for group in groups)
    lines = [
        "Train language models from human feedback, one stage or a whole sweep at a time.",
        "",
        "  python -m rlhf                                    SFT, reward model and PPO on a built-in demo, offline",
        "  python -m rlhf stage=sft model=opt125m            one stage of a real model",
        "  python -m rlhf stage=ppo ppo.kl_coef=0.2          any value of the configuration can be set",
        "  python -m rlhf -m stage=sft sft.epochs=1,2,4      a study: every combination, several at a time",
        "  python -m rlhf plan sweep=characterize_ppo        what a study or a run would start and take, starting nothing",
        "  python -m rlhf study outputs/studies/<name>       the answer of a study, live while it runs",
        "  python -m rlhf chat outputs/runs/<name>           talk to what a run has trained, or to two side by side",
        "  python -m rlhf report outputs/runs/<name>         the page of a run, report.html, anew",
        "  python -m rlhf compare outputs/runs/<name> ...    what sets runs apart, what came of it, and how sure that is",
        "  python -m rlhf sync                               send to Weights & Biases what was kept offline",
        "  python -m rlhf reproduce outputs/runs/<name>      the run again, and whether it comes out the same",
        "  python -m rlhf replay outputs/runs/<name> ...     one recorded update of a run again, under other settings",
        "  python -m rlhf doctor outputs/runs/<name>         what is wrong with a run, by its records, and what to turn",
        "  python -m rlhf invariants stage=ppo model=tiny    whether every way to compute the same update comes to the same",
        "  python -m rlhf explain ppo.kl_coef                what a key, a metric or a term means",
        "",
        f"Stages: {' '.join(STAGES)} (a stage trains the ones it builds on if they are missing)",
        "",
        "Groups (group=option):",
    ]
    for group in groups:
        options = sorted(file.stem for file in group.glob("*.yaml"))
        if group.name == "source":
            options = [
                f"{len(options) - 1} data sets of the hub, see docs/catalogue.md: data=NAME, or +source@data.sources.NAME=NAME"
            ]
        if options:
            auto = " (default: the model's usual)" if group.name in COMPANIONS else ""
            lines.append(f"  {group.name:<{width}}  {' '.join(options)}{auto}")
    lines += [
        "",
        "Options of your own: --config-dir DIR adds DIR/<group>/<option>.yaml to the above",
        "Look before running:  --cfg job  the composed configuration    --info defaults  where it came from",
        'Complete with Tab:    eval "$(rlhf -sc install=bash)"',
        "Every key is documented in docs/config.md.",
        "",
        "Exit codes: 0 finished, 1 failed, 2 faults in the configuration, 3 does not fit, 75 stopped and resumable.",
        "A study that ran to its end exits with 0, whatever became of its trials; its table says that.",
    ]
    return "\n".join(lines)
