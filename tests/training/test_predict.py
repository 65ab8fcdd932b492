"""Answers and embeddings: the same whatever the order of the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fm_platform.errors import TrainingError
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.data import readable_tokens
from fm_platform.training.embed import embed
from fm_platform.training.predict import load_adapter, load_classifier, predict_probabilities
from tests.support.tiny_model import build_tiny_base, tiny_rows

TEXTS = [*tiny_rows(30)["text"].to_pylist(), "", "a " * 500, "zebra"]


def test_probabilities(base: BaseModel, start: Path) -> None:
    classifier = load_adapter(base, start)
    seen: list[tuple[int, int]] = []
    found = predict_probabilities(
        classifier, TEXTS, max_tokens=24, on_progress=lambda *done: seen.append(done)
    )

    assert found.shape == (len(TEXTS), 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    backwards = predict_probabilities(classifier, TEXTS[::-1], max_tokens=24)[::-1]
    np.testing.assert_allclose(found, backwards, atol=1e-6)


def test_no_texts(base: BaseModel, start: Path) -> None:
    assert predict_probabilities(load_adapter(base, start), []).shape == (0, 3)
    assert embed(base, []).shape == (0, 16)


def test_an_embedding_is_the_mean_over_the_tokens_of_the_text(base: BaseModel) -> None:
    from transformers import AutoModel

    found = embed(base, TEXTS, max_tokens=24)
    model, tokenizer = AutoModel.from_pretrained(base.directory).eval(), base.tokenizer()
    for i in (0, 5, 30, 31):
        encoded = tokenizer(TEXTS[i], truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**encoded).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_embeddings_are_bit_identical_again(base: BaseModel) -> None:
    assert np.array_equal(embed(base, TEXTS), embed(base, TEXTS))


def test_a_family_whose_positions_begin_behind_padding_reads_fewer_tokens(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    folder = build_tiny_base(tmp_path / "base")
    words = len((folder / "vocab.txt").read_text().split())
    config = RobertaConfig(
        vocab_size=words, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    base = resolve_base_model(BaseModelSpec(location=str(folder)), tmp_path)

    assert readable_tokens(config, base.tokenizer()) == 23
    assert embed(base, ["a " * 200], max_tokens=64).shape == (1, 16)


def test_a_base_without_a_head_is_no_classifier(base: BaseModel) -> None:
    with pytest.raises(TrainingError, match="missing classifier"):
        load_classifier(base.directory)


def test_a_folder_that_is_no_adapter(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no readable fm_adapter"):
        load_adapter(base, tmp_path)
