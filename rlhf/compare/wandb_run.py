"""A run as Weights & Biases holds it: in the file of an offline run, or on the server."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlhf.compare.subject import Subject, price, reads_of, seed_of, texts
from rlhf.fault import Fault
from rlhf.report.curves import number
from rlhf.report.folder import Row
from rlhf.result import COSTS
from rlhf.tracking import wandb_file
from rlhf.tracking.about import SWEPT, TRIAL

HELD_OUT_TOO = ("response/", "rewards/", "ema/", "policy/", "val/", "loss/", "objective/")
"""Metrics of training that are `eval/...` in W&B when they were held out."""
AXES = {"_runtime": "seconds", "progress/round": "round"}
PATIENCE = 30
"""Seconds for an answer of the server."""


def file_in(path: Path) -> Path | None:
    """The file of an offline run, if ``path`` is one or the folder of one."""
    if path.suffix == ".wandb" and path.is_file():
        return path
    return next(iter(sorted(path.glob("run-*.wandb"))), None) if path.is_dir() else None


def offline(path: Path) -> Subject:
    """The run in the file of an offline run.

    Raises:
        Fault: it holds no run.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # here only: wandb takes seconds to import

    name, rows = "", []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for raw in wandb_file.records(path.read_bytes()):
        record = Record()
        record.ParseFromString(raw)
        match record.WhichOneof("record_type"):
            case "run":
                name = record.run.run_id
                config |= _items(record.run.config.update)
            case "config":
                config |= _items(record.config.update)
            case "history":
                rows.append(_items(record.history.item))
            case "exit":
                summary.setdefault("status", "finished" if record.exit.exit_code == 0 else "failed")
            case "summary":
                summary |= _items(record.summary.update)
    if not name:
        raise Fault(f"{path}: holds no run of W&B; name the folder of an offline run, wandb/offline-run-...")
    return _subject(name, str(path), config, summary, rows)


def online(place: str) -> Subject:
    """The run ``entity/project/id`` on the server.

    Raises:
        Fault: it is not written so, the server cannot be reached, or has no such run.
    """
    if len([part for part in place.split("/") if part]) != 3:
        raise Fault(f"wandb:{place}: is not the address of a run; write wandb:ENTITY/PROJECT/RUN_ID")
    import wandb  # here only: it takes seconds to import

    if not wandb.login(prompt=False, verify=False):
        raise Fault(f"wandb:{place}: nobody is logged in to W&B; run `wandb login`, or name the local folder of the run")
    try:
        run = wandb.Api(timeout=PATIENCE).run(place)
        rows = [dict(row) for row in run.scan_history()]
        return _subject(run.id, f"wandb:{place}", dict(run.config), dict(run.summary), rows)
    except Exception as error:  # the client's own errors and those of every layer below it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Fault(f"wandb:{place}: W&B did not hand it out ({reason}); name the local folder of the run instead") from error


def _subject(name: str, source: str, config: dict[str, Any], summary: dict[str, Any], rows: list[Row]) -> Subject:
    saved = OmegaConf.create(
        {key: value for key, value in config.items() if not key.startswith("_") and key not in (TRIAL, SWEPT)}
    )
    assert isinstance(saved, DictConfig)
    known = texts(saved)
    stage = known.get("stage", name.split("-")[0])
    if f"{stage}.batch_size" not in known:
        stage = name.split("-")[0]  # a parent that a later stage asked for
    batch = number(known.get(f"{stage}.batch_size"))
    commit = summary.get("run/commit")
    return Subject(
        name=name,
        source=source,
        stage=stage,
        status=str(summary.get("status", "not ended")),
        seed=seed_of(known),
        config=known,
        reads=reads_of(saved, stage),
        facts={"commit": str(commit)} if commit else {},
        metrics={key: float(value) for key, value in summary.items() if _is_metric(key, value)},
        rows=list(_rows(rows)),
        samples_a_round=batch if batch > 0 else None,
        usd_per_second=price(known),
    )


def _rows(logged: Iterable[Row]) -> Iterator[Row]:
    """Rows with the names of our own record."""
    for row in logged:
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
        named = {AXES.get(key, key): value for key, value in numbers.items()}
        kept = {key: value for key, value in named.items() if not key.startswith("_")}
        kind = "eval" if any(key.startswith(("eval/", "reward/")) for key in kept) else "train"
        if "round" in kept and kept.keys() - {"round", "seconds", "progress/samples", "progress/tokens"}:
            yield {"kind": kind, "seconds": 0.0, **{_name(key): value for key, value in kept.items()}}


def _name(key: str) -> str:
    inner = key.removeprefix("eval/")
    return inner if inner.startswith(HELD_OUT_TOO) else key


def _is_metric(key: str, value: object) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (
        plain
        and not key.startswith(("_", "progress/"))
        and key not in COSTS
        and ("/" in key or key == "loss")
        and _name(key) == key
    )


def _items(items: Iterable[Any]) -> dict[str, Any]:
    """Key and value of each item; of tables and the like, whose keys have several parts, nothing."""
    found = {}
    for item in items:
        parts = list(item.nested_key) or [item.key]
        if len(parts) == 1:
            try:
                found[parts[0]] = json.loads(item.value_json)
            except ValueError:
                continue
    return found
