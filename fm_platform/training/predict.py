"""Load a model whose bytes were verified, and ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import TrainingError
from fm_platform.training.base_model import BaseModel, load_tokenizer, quiet
from fm_platform.training.data import padded, token_batches, tokenize
from fm_platform.training.train import ADAPTER_FACTS, load_peft

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
    import torch
    from transformers import AutoModelForSequenceClassification

    quiet()
    model, info = AutoModelForSequenceClassification.from_pretrained(
        str(directory), local_files_only=True, use_safetensors=True, trust_remote_code=False,
        output_loading_info=True, dtype=torch.float32,
    )  # fmt: skip
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])]
    wrong += [n for n, p in model.named_parameters() if not torch.isfinite(p).all()]
    if wrong:
        raise TrainingError(
            "a model does not fit its configuration", where=directory.name,
            found=", ".join(sorted(wrong)[:6]), next_step="fm fsck; then build it again",
        )  # fmt: skip
    return Classifier(model.eval(), load_tokenizer(directory))


def load_adapter(base: BaseModel, directory: Path) -> Classifier:
    """Load base + adapter.

    Raises:
        TrainingError: If the adapter belongs to another base.
    """
    classes = json.loads((directory / ADAPTER_FACTS).read_text("utf-8"))["classes"]
    model = load_peft(base, directory, classes, 0, trainable=False)
    return Classifier(model, load_tokenizer(base.directory))


def predict_probabilities(
    classifier: Classifier,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return class probabilities float32[n, k], in the order of `texts`."""
    import torch

    tokens = tokenize(classifier.tokenizer, texts, max_tokens)
    lengths = [len(row) for row in tokens]
    order = sorted(range(len(tokens)), key=lambda i: (lengths[i], i))
    out = np.zeros((len(tokens), classifier.model.config.num_labels), np.float32)
    done = 0
    with torch.inference_mode():
        for batch in token_batches(order, lengths, _BATCH_TOKENS):
            ids, mask = padded([tokens[i] for i in batch], classifier.tokenizer.pad_token_id or 0)
            logits = classifier.model(input_ids=ids, attention_mask=mask).logits
            out[batch] = torch.softmax(logits.float(), dim=-1).numpy()
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(tokens))
    return out
