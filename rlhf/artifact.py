"""What a stage leaves for others: a folder that plain transformers loads, sealed by a manifest of where it comes from."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate.utils.other
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.fault import Fault
from rlhf.models.adapters import merged, save_adapter
from rlhf.sealed import MANIFEST, Broken, open_sealed, seal


@dataclass(frozen=True)
class Artifact:
    """A finished model on disk."""

    path: Path
    kind: str
    """`policy` or `reward_model`."""
    signature: str
    """Result signature of the run that made it."""


def save(
    path: Path, model: PreTrainedModel, weights: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase, about: dict[str, Any]
) -> Artifact:
    """Write model, tokenizer (with its chat template) and a model card to ``path``, whole or not at all.

    ``weights`` are the model's, whole. ``about`` goes into the manifest and the card: kind, result_signature, stage,
    parents, metrics ...
    """

    def fill(target: Path) -> None:
        write_network(target, model, merged(model, weights))
        save_adapter(target, model, weights, model.config.name_or_path or None)
        tokenizer.save_pretrained(target)
        (target / "README.md").write_text(_card(about))

    seal(path, fill, about)
    return Artifact(path, about["kind"], about["result_signature"])


def write_network(folder: Path, model: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    """Write ``model`` as transformers does, with these ``weights`` of one without adapters."""
    with _known_unwrapped():
        model.save_pretrained(folder, state_dict=weights)


@contextmanager
def _known_unwrapped() -> Iterator[None]:
    """What is saved is never wrapped; to see that, accelerate would load all of DeepSpeed where nothing else has."""
    asked = accelerate.utils.other.is_deepspeed_available
    if "deepspeed" not in sys.modules:
        accelerate.utils.other.is_deepspeed_available = lambda: False
    try:
        yield
    finally:
        accelerate.utils.other.is_deepspeed_available = asked


def find(runs: Path, signature: str) -> Iterator[Path]:
    """The artifacts with this result signature among the folders of ``runs``, whichever system settings made them."""
    for manifest in sorted(runs.glob(f"*/artifact/{MANIFEST}")):
        try:
            about = json.loads(manifest.read_text())
        except ValueError:  # torn; whoever wants this run makes it again
            continue
        if about.get("result_signature") == signature:
            yield manifest.parent


def load(path: Path, kind: str, key: str, opened: Callable[[Path], dict[str, Any]] = open_sealed) -> Artifact:
    """An artifact someone points at, checked file by file by ``opened``.

    Raises:
        Fault: it is broken or of another kind; the message names ``key``, the setting that pointed at it.
    """
    try:
        about = opened(path)
    except Broken as error:
        raise Fault(f"{key}={path}: {error}") from error
    if about["kind"] != kind:
        raise Fault(f"{key}={path}: is a {about['kind']}, but a {kind} is needed")
    return Artifact(path, kind, about["result_signature"])


def _card(about: dict[str, Any]) -> str:
    metrics = "\n".join(f"| {name} | {value:.5g} |" for name, value in about.get("metrics", {}).items())
    use = "AutoModelForCausalLM" if about["kind"] == "policy" else "AutoModelForSequenceClassification"
    return (
        f"---\nlibrary_name: transformers\n---\n# {about['stage']} of {about['model']}\n\n"
        f"A {about['kind'].replace('_', ' ')}; load it with `{use}.from_pretrained` and the tokenizer beside it.\n\n"
        f"Trained on `{about['data']}` with seed {about['seed']}; result signature `{about['result_signature']}`.\n\n"
        f"| metric | value |\n|---|---|\n{metrics}\n"
    )
