"""Frozen sentence embeddings: mean over the last hidden states of the base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.training.base_model import BaseModel, load_tokenizer, quiet
from fm_platform.training.data import padded, token_batches, tokenize

_BATCH_TOKENS = 4096
_LOADED: dict[str, tuple[object, object]] = {}


def embed(
    base: BaseModel,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return float32[n, hidden]: the mean of the last hidden states over the text's tokens."""
    import torch

    model, tokenizer = _load(base)
    tokens = tokenize(tokenizer, texts, max_tokens)
    lengths = [len(row) for row in tokens]
    order = sorted(range(len(tokens)), key=lambda i: (lengths[i], i))
    out = np.zeros((len(tokens), model.config.hidden_size), np.float32)  # type: ignore[attr-defined]
    done = 0
    with torch.inference_mode():
        for batch in token_batches(order, lengths, _BATCH_TOKENS):
            ids, mask = padded([tokens[i] for i in batch], tokenizer.pad_token_id or 0)  # type: ignore[attr-defined]
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # type: ignore[operator]
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            out[batch] = ((hidden * weight).sum(1) / weight.sum(1)).numpy()
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(tokens))
    return out


def _load(base: BaseModel) -> tuple[object, object]:
    """Load the encoder once a process: a backfill of many days embeds with one model."""
    if base.content_hash not in _LOADED:
        import torch
        from transformers import AutoModel

        quiet()
        model = AutoModel.from_pretrained(
            str(base.directory), local_files_only=True, use_safetensors=True,
            trust_remote_code=False, dtype=torch.float32,
        )  # fmt: skip
        _LOADED.clear()
        _LOADED[base.content_hash] = (model.eval(), load_tokenizer(base.directory))
    return _LOADED[base.content_hash]
