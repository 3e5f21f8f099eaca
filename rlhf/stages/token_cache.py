"""Token ids of many rows: worked out once, by all cores this process may use, and kept on disk by what decides them.

Who comes first, of the ranks of a run or the trials of a study, holds a file lock while it works; the others wait for the
lock, not in a collective operation that would time out.
"""

import fcntl
import hashlib
import inspect
import json
import multiprocessing
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy
from transformers import PreTrainedTokenizerBase

from rlhf.data.records import Turn
from rlhf.models import template
from rlhf.sealed import make_folder
from rlhf.stages.batches import Tokens
from rlhf.stopping import die_with
from rlhf.tracking.screen import SECONDS_BETWEEN_LINES, warn

Asked = tuple[tuple[Turn, ...], Sequence[str]]
"""The turns of a prompt, and the answers to it."""

Rows = list[list[Tokens] | None]
"""Prompt and response ids of each answer; None where an answer leaves no room for the prompt."""

Tokenise = Callable[[PreTrainedTokenizerBase, Sequence[Asked], int], Rows]

KEPT_FROM = 20_000
"""Rows from which the result is kept: fewer take less time than the other processes take to start."""
CHUNK = 5_000
"""Rows a process takes at a time."""


def kept(tokenise: Tokenise, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], max_length: int, folder: Path) -> Rows:
    """``tokenise(tokenizer, asked, max_length)``, read from ``folder`` where it lies there.

    Raises:
        Fault: the folder cannot be made or written.
    """
    make_folder(folder, "paths.cache")
    file = folder / f"{_digest(tokenise, tokenizer, asked, max_length)}.npz"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (rows := _read(file)) is None:
            rows = list(_in_parallel(tokenise, tokenizer, asked, max_length))
            _write(file, rows)
    return rows


def _digest(tokenise: Tokenise, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], max_length: int) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    code = [inspect.getsource(template), inspect.getsource(inspect.getmodule(tokenise) or tokenise)]
    versions = [version(package) for package in ("transformers", "tokenizers")]
    about = [type(tokenizer).__name__, rules, tokenizer.chat_template, special, code, versions, max_length]
    digest = hashlib.sha256(json.dumps(about).encode())
    for turns, answers in asked:
        digest.update(json.dumps([[asdict(turn) for turn in turns], list(answers)]).encode())
    return digest.hexdigest()


def _in_parallel(
    tokenise: Tokenise, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], max_length: int
) -> Iterator[list[Tokens] | None]:
    chunks = [asked[first : first + CHUNK] for first in range(0, len(asked), CHUNK)]
    processes = min(len(os.sched_getaffinity(0)), len(chunks))
    warn(f"tokenising {len(asked)} rows on {processes} cores; the result is kept")
    done, told = 0, time.monotonic()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (os.getpid(),)) as pool:
        tasks = [pool.submit(tokenise, tokenizer, chunk, max_length) for chunk in chunks]
        for task in tasks:
            rows = task.result()
            yield from rows
            done += len(rows)
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                warn(f"  {done} of {len(asked)} rows")


def _begin(parent: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process has one core
    die_with(parent)


def _write(file: Path, rows: Rows) -> None:
    answers = [-1 if row is None else len(row) for row in rows]
    parts = [ids for row in rows if row is not None for answer in row for ids in answer]
    ids = numpy.fromiter((each for part in parts for each in part), numpy.int32)
    beside = file.with_suffix(f".{os.getpid()}.npz")
    lengths = numpy.array([len(part) for part in parts], numpy.int32)
    numpy.savez(beside, answers=numpy.array(answers, numpy.int32), lengths=lengths, ids=ids)
    beside.replace(file)


def _read(file: Path) -> Rows | None:
    """What was written, or None where nothing lies there that can be read."""
    try:
        with file.open("rb") as stored, numpy.load(stored) as content:
            answers, lengths, ids = (content[name] for name in ("answers", "lengths", "ids"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    ends = lengths.cumsum()
    parts = (ids[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True))
    return [None if count < 0 else [(next(parts), next(parts)) for _ in range(count)] for count in answers]
