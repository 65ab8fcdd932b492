"""Frozen sentence embeddings: mean over the last hidden states of the base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.numerics import reproducible
from fm_platform.training.base_model import BaseModel, new_encoder
from fm_platform.training.data import by_length, padded, readable_tokens, token_batches, tokenize

_BATCH_TOKENS = 4096


def embed(
    base: BaseModel,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Return float32[n, hidden]: the mean of the last hidden states over the text's tokens.

    Raises:
        BaseModelError: If the weights or the tokenizer cannot be used.
    """
    import torch

    model, tokenizer = _load(base)
    tokens = tokenize(tokenizer, texts, min(max_tokens, readable_tokens(model.config, tokenizer)))
    lengths = [len(row) for row in tokens]
    out = np.zeros((len(tokens), model.config.hidden_size), np.float32)
    done = 0
    with reproducible(), torch.inference_mode():
        for batch in token_batches(by_length(lengths), lengths, _BATCH_TOKENS):
            ids, mask = padded([tokens[i] for i in batch], tokenizer.pad_token_id or 0)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            out[batch] = ((hidden * weight).sum(1) / weight.sum(1)).numpy()
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(tokens))
    return out


@lru_cache(maxsize=1)
def _load(base: BaseModel) -> tuple[Any, Any]:
    """Load the encoder once a process: a backfill of many days embeds with one model."""
    return new_encoder(base), base.tokenizer()
