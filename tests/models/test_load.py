"""Policies and scorers from sizes and from folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GraniteConfig,
    PreTrainedTokenizerBase,
)

from rlhf.config import Family, ModelConfig, Template
from rlhf.fault import Fault
from rlhf.models.load import load_policy, load_scorer
from rlhf.models.tokenizer import PAD, load_tokenizer, train_tokenizer

IDS = torch.tensor([[1, 10, 20, 30, 2]])


@pytest.mark.parametrize("family", Family)
def test_special_tokens_and_dropout_are_settled(
    family: Family, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    policy = load_policy(replace(model_config(family), dropout=0.25), tokenizer, None, seed=0)
    for settled in (policy.config, policy.generation_config):
        found = (settled.pad_token_id, settled.bos_token_id, settled.eos_token_id)
        assert found == (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    values = {name: value for name, value in policy.config.to_dict().items() if isinstance(value, float)}
    dropouts = {name: value for name, value in values.items() if "dropout" in name or "pdrop" in name}
    assert dropouts and set(dropouts.values()) == {0.25}
    assert all(parameter.dtype == torch.float32 for parameter in policy.parameters())


@pytest.mark.parametrize("family", Family)
def test_random_weights_belong_to_the_seed(
    family: Family, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    one, same, other = (load_policy(model_config(family), tokenizer, None, seed)(IDS).logits for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_opt350m_like_networks_load_as_policy_and_scorer(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    config = model_config(Family.opt, embed_size=16, norm_first=False)
    assert load_policy(config, tokenizer, None, 0)(IDS).logits.shape == (1, 5, 320)
    scorer = load_scorer(config, tokenizer, None, 0, fresh_head=True)
    assert scorer.score.weight.shape == (1, 16)
    assert scorer(IDS).logits.shape == (1, 1)


@pytest.mark.parametrize("width", [32, 256])
def test_a_fresh_head_has_variance_one_over_width_plus_one(
    width: int, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    """Whatever `init_std` says; 40 heads, so that the deviation is known to a few per cent."""
    config = model_config(Family.llama, hidden_size=width, layers=1, init_std=0.5)
    heads = torch.cat([load_scorer(config, tokenizer, None, seed, fresh_head=True).score.weight for seed in range(40)])
    assert heads.std().item() * (width + 1) ** 0.5 == pytest.approx(1.0, abs=0.1)
    assert heads.mean().item() == pytest.approx(0.0, abs=0.1 / (width + 1) ** 0.5)


def test_a_head_has_no_bias_and_is_kept_unless_a_fresh_one_is_wanted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    config = model_config(Family.gpt_neox)
    scorer = load_scorer(config, tokenizer, None, 0, fresh_head=True)
    assert scorer.score.bias is None
    scorer.save_pretrained(tmp_path)
    kept = load_scorer(config, tokenizer, tmp_path, seed=7, fresh_head=False)
    assert torch.equal(kept.score.weight, scorer.score.weight)
    assert not torch.equal(load_scorer(config, tokenizer, tmp_path, seed=7, fresh_head=True).score.weight, scorer.score.weight)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(plain(IDS).logits, kept(IDS).logits)


@pytest.mark.parametrize("family", Family)
def test_a_saved_policy_is_the_same_function_and_a_trunk_for_a_scorer(
    family: Family, tmp_path: Path, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    config = model_config(family)
    policy = load_policy(config, tokenizer, None, 0).eval()
    policy.save_pretrained(tmp_path)
    again = load_policy(config, tokenizer, tmp_path, seed=9).eval()
    torch.testing.assert_close(again(IDS).logits, policy(IDS).logits)
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(IDS).logits, policy(IDS).logits)
    scorer = load_scorer(config, tokenizer, tmp_path, 0, fresh_head=True)
    assert torch.equal(scorer.get_input_embeddings().weight, policy.get_input_embeddings().weight)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    "load", [load_policy, lambda *arguments: load_scorer(*arguments, fresh_head=True)], ids=["policy", "scorer"]
)
def test_a_pad_token_that_was_added_gets_a_row_of_its_own(
    family: Family, load: Callable, tmp_path: Path, model_config: Callable[..., ModelConfig]
) -> None:
    """Published tokenizers without a pad token get one behind the last row of the embedding."""
    published = train_tokenizer(["a b c"] * 3, 300, Template.roles)
    config = model_config(family, vocab_size=len(published))
    load_policy(config, published, None, 0).save_pretrained(tmp_path)
    published.pad_token = published.eos_token
    published.save_pretrained(tmp_path)
    ours = replace(config, path=str(tmp_path))
    tokenizer = load_tokenizer(replace(ours, template=Template.dialogue), ())
    assert tokenizer.pad_token == PAD and tokenizer.pad_token_id != tokenizer.eos_token_id
    added = "<|padding|>"
    tokenizer.add_special_tokens({"pad_token": added})
    assert tokenizer.pad_token_id == len(published)
    model = load(ours, tokenizer, None, 0)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    ids = torch.tensor([[1, 10, tokenizer.pad_token_id]])
    assert torch.isfinite(model(ids, attention_mask=torch.tensor([[1, 1, 0]])).logits).all()


def test_a_path_that_cannot_be_read_is_the_users_fault(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    config = model_config(Family.llama, path=str(tmp_path / "nowhere"))
    with pytest.raises(Fault, match=r"model\.path=.*nowhere"):
        load_policy(config, tokenizer, None, 0)
    with pytest.raises(Fault, match=r"model\.path=.*nowhere"):
        load_tokenizer(config, ())


def test_a_network_that_bends_its_logits_is_refused(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    from_file = GraniteConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, logits_scaling=8.0)
    from_file.save_pretrained(tmp_path)
    with pytest.raises(Fault, match=r"model.path=.*: granite changes its logits \(logits_scaling\)"):
        load_policy(model_config(Family.llama, path=str(tmp_path)), tokenizer, None, seed=0)
