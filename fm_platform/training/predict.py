"""Load a model whose bytes were verified, and ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import TrainingError
from fm_platform.numerics import reproducible
from fm_platform.training.adapter import adapter_classes, load_peft
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import by_length, padded, readable_tokens, token_batches, tokenize
from fm_platform.training.loading import load_checked, load_tokenizer

_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Classifier:
    """A model in evaluation mode and its tokenizer."""

    model: Any
    tokenizer: Any


def load_classifier(directory: Path) -> Classifier:
    """Load a dense classifier from a folder of safetensors, without network or foreign code.

    Raises:
        TrainingError: If tensors are missing, unexpected or not finite.
    """
    model = load_checked(directory, "AutoModelForSequenceClassification", TrainingError)
    return Classifier(model, load_tokenizer(directory, TrainingError))


def load_adapter(base: BaseModel, directory: Path) -> Classifier:
    """Load base + adapter.

    Raises:
        TrainingError: If the adapter belongs to another base.
    """
    model = load_peft(base, directory, adapter_classes(directory), 0, trainable=False)
    return Classifier(model, base.tokenizer())


def predict_probabilities(
    classifier: Classifier,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return class probabilities float32[n, k], in the order of `texts`."""
    import torch

    limit = readable_tokens(classifier.model.config, classifier.tokenizer)
    tokens = tokenize(classifier.tokenizer, texts, min(max_tokens, limit))
    lengths = [len(row) for row in tokens]
    out = np.zeros((len(tokens), classifier.model.config.num_labels), np.float32)
    done = 0
    with reproducible(), torch.inference_mode():
        for batch in token_batches(by_length(lengths), lengths, _BATCH_TOKENS):
            ids, mask = padded([tokens[i] for i in batch], classifier.tokenizer.pad_token_id or 0)
            logits = classifier.model(input_ids=ids, attention_mask=mask).logits
            out[batch] = torch.softmax(logits.float(), dim=-1).numpy()
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(tokens))
    return out
