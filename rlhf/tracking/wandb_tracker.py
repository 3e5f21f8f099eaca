"""Weights & Biases as a sink that can never hold up a run: everything happens on a thread of its own.

Without a login (no key in the environment, none stored) the run is kept offline in its own folder, to be sent later with
`wandb sync`. If wandb fails or hangs, the run says so once and goes on; its record is complete either way.
"""

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from rlhf.config import TrackerConfig

FINISH_SECONDS = 30.0
"""How long the end of a run waits for what is still queued."""


class WandbTracker:
    """Queues every call; a daemon thread makes them."""

    def __init__(self, config: TrackerConfig, about: Mapping[str, Any]) -> None:
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, args=(config, dict(about)), name="wandb", daemon=True)
        self._thread.start()

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Queue a row of metrics."""
        self._queue.put(("log", (step, dict(row))))

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Queue a table of samples."""
        self._queue.put(("table", (step, [dict(row) for row in rows])))

    def finish(self, summary: Mapping[str, float], exit_code: int) -> None:
        """Queue the end, and wait a bounded time for the thread."""
        self._queue.put(("finish", (dict(summary), exit_code)))
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            print(f"wandb did not finish within {FINISH_SECONDS:.0f} s; the local record is complete")

    def _work(self, config: TrackerConfig, about: dict[str, Any]) -> None:
        try:
            self._serve(config, about)
        except Exception as error:  # the one place where anything may go wrong: a sink must not end a run
            print(f"wandb is off for this run ({type(error).__name__}: {error}); the local record is complete")

    def _serve(self, config: TrackerConfig, about: dict[str, Any]) -> None:
        import wandb  # here and only here, and not on the main thread: importing it takes seconds

        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in(wandb) else "offline")
        run = wandb.init(
            mode=cast(Literal["online", "offline", "disabled", "shared"], mode),
            dir=about["folder"],
            project=config.project,
            group=config.group,
            id=about["id"],
            name=about["name"],
            job_type=about["stage"],
            tags=[*about["tags"], *config.tags],
            config=about["config"],
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True),
        )
        run.define_metric("progress/*")
        for axis in ("progress/tokens", "progress/round"):
            run.define_metric(axis)
        run.define_metric("*", step_metric="progress/round")
        while True:
            call, arguments = self._queue.get()
            if call == "log":
                step, row = arguments
                run.log({**row, "progress/round": step})
            elif call == "table":
                step, rows = arguments
                columns = list(rows[0])
                run.log(
                    {"samples": wandb.Table(columns=columns, data=[[row.get(column) for column in columns] for row in rows])}
                )
            else:
                summary, exit_code = arguments
                run.summary.update(summary)
                run.finish(exit_code=exit_code)
                return


def _logged_in(wandb: Any) -> bool:
    return bool(os.environ.get("WANDB_API_KEY")) or bool(wandb.api.api_key)
