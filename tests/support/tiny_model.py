"""A random two-layer BERT with a vocabulary of its own, and rows that it can learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from fm_platform.spec.models import Training

CLASSES = ("negative", "neutral", "positive")
WORDS = {
    "negative": ("bad", "awful", "dull", "poor", "hate"),
    "neutral": ("table", "street", "paper", "monday", "seven"),
    "positive": ("good", "great", "lovely", "fine", "love"),
}
FILLERS = ("the", "a", "was", "is", "it", "this", "and", "very", "of", "to")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_tiny_base(directory: Path, seed: int = 0) -> Path:
    """Write config.json, model.safetensors, vocab.txt and tokenizer_config.json."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIAL, *FILLERS, *(word for words in WORDS.values() for word in words)]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.3,  # a random encoder that tells words apart
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return directory


def build_knowing_base(directory: Path, known: int, seed: int = 0) -> Path:
    """Write a tiny base to which the first `known` words of each class are nearly the same word.

    The other words of the classes are one and the same word to it, whatever their class.
    """
    from safetensors.torch import load_file, save_file

    build_tiny_base(directory, seed)
    path = directory / "model.safetensors"
    tensors = load_file(str(path))
    vectors = tensors["embeddings.word_embeddings.weight"]
    vocabulary = (directory / "vocab.txt").read_text("utf-8").split()
    for words in WORDS.values():
        rows = [vocabulary.index(word) for word in words]
        vectors[rows[:known]] = 0.1 * vectors[rows[:known]] + vectors[rows[0]].clone()
        vectors[rows[known:]] = vectors[vocabulary.index("[UNK]")].clone()
    save_file(tensors, str(path), metadata={"format": "pt"})
    return directory


def build_tiny_classifier(directory: Path, seed: int = 0) -> Path:
    """Write a random classifier of two labels."""
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    build_tiny_base(directory, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(directory, num_labels=2)
        BertForSequenceClassification(config).save_pretrained(directory)
    return directory


def tiny_rows(
    count: int, seed: int = 0, sources: tuple[str, ...] = ("mail", "chat"), split: str = "train"
) -> pa.Table:
    """Return cleaned rows whose weak label follows from their words."""
    generator = np.random.default_rng([seed, count])
    columns: dict[str, list[object]] = {
        "row_id": [], "text": [], "source": [], "label": [], "probabilities": [],
    }  # fmt: skip
    for i in range(count):
        index = int(generator.integers(len(CLASSES)))
        length = int(generator.integers(2, 9))
        words = [FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=length)]
        told = WORDS[CLASSES[index]][int(generator.integers(5))]
        words.insert(int(generator.integers(length)), told)
        columns["row_id"].append(f"{split}-{seed}-{i:04d}")
        columns["text"].append(" ".join(words))
        columns["source"].append(sources[i % len(sources)])
        columns["label"].append(CLASSES[index])
        columns["probabilities"].append([0.9 if k == index else 0.05 for k in range(3)])
    return pa.table(
        {
            name: pa.array(values, pa.list_(pa.float32()) if name == "probabilities" else None)
            for name, values in columns.items()
        }
    )


def tiny_config(**changes: object) -> Training:
    """Return settings under which a training of the tiny base takes a fraction of a second."""
    settings: dict[str, object] = {
        "rank": 2, "alpha": 4.0, "learning_rate": 1e-2, "expert_learning_rate": 1e-2,
        "batch_tokens": 64, "max_tokens": 24, "threads": 1, "probe_epochs": 2,
        "checkpoint_every_steps": 4, "patience": 100,
    }  # fmt: skip
    return Training.model_validate(settings | changes)


def rows_of(rows: pa.Table, source: str) -> pa.Table:
    """Return the rows of one source."""
    return rows.filter([name == source for name in rows["source"].to_pylist()])
