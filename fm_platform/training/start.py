"""The shared start of all experts: head first, then a short LoRA warm-up on every source.

Linear probing before fine-tuning keeps the base's features (Kumar et al. 2022, "Fine-Tuning can
Distort Pretrained Features and Underperform Out-of-Distribution", arXiv 2202.10054). Experts that
begin from one start stay in one basin of the loss, so that their weighted mean is a good model
too (Wortsman et al. 2022, "Model soups", arXiv 2203.05482).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import NonFiniteLossError
from fm_platform.losses import soft_cross_entropy
from fm_platform.numerics import reproducible
from fm_platform.spec.models import Training
from fm_platform.training.adapter import new_peft
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import (
    Encoded,
    balanced_sample,
    by_length,
    cells_of,
    encode,
    padded,
    take,
    token_batches,
)
from fm_platform.training.loop import RowLoss
from fm_platform.training.train import OnStep, TrainedExpert, require_readable, run_training

_PROBE_BATCH_ROWS = 128
_STATE_BATCH_TOKENS = 4096


def fit_start(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    on_step: OnStep | None = None,
) -> TrainedExpert:
    """Train the start on a balanced sample of all sources; arguments as for `train_expert`.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
        TrainingError: If there are no rows, or their targets are of another taxonomy.
        BaseModelError: If the base cannot be used.
    """
    with reproducible(config.threads):
        model = new_peft(base, config, classes)
        tokenizer = base.tokenizer()
        require_readable(model, tokenizer, config)
        pad_id = tokenizer.pad_token_id or 0
        encoded = encode(tokenizer, rows, config.max_tokens, classes)
        generator = np.random.default_rng([config.seed, 0])
        sample = take(
            encoded, balanced_sample(encoded.sources, config.start_rows_per_source, generator)
        )
        if len(sample) and config.probe_epochs:
            probe_head(model, sample, config, pad_id)
        return run_training(
            model, sample, encode(tokenizer, dev, config.max_tokens, classes), base, config,
            classes, workdir, config.learning_rate, pad_id, on_step,
        )  # fmt: skip


def probe_head(
    model: Any, rows: Encoded, config: Training, pad_id: int, objective: RowLoss | None = None
) -> None:
    """Fit pooler and classifier on the frozen encoder's first-token states, in place.

    Only for encoders with a pooler over the first token (BERT and its kin); others begin with a
    fresh head. `objective` is the loss of rows; None: soft cross entropy.

    Raises:
        NonFiniteLossError: If the loss is not finite.
    """
    import torch

    inner = model.get_base_model()
    encoder = getattr(inner, inner.base_model_prefix, None)
    pooler = getattr(encoder, "pooler", None)
    if pooler is None or not hasattr(inner, "classifier"):
        return
    generator = np.random.default_rng([config.seed, 3])
    kept = sorted(generator.permutation(len(rows))[: config.probe_rows].tolist())
    sample = take(rows, kept)
    states = first_token_states(encoder, sample, pad_id, int(inner.config.hidden_size))
    targets = torch.from_numpy(sample.targets)
    parameters = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.probe_learning_rate, weight_decay=config.weight_decay
    )
    for epoch in range(config.probe_epochs):
        rate = config.probe_learning_rate * (1 - epoch / config.probe_epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        shuffled = generator.permutation(len(sample))
        for start in range(0, len(sample), _PROBE_BATCH_ROWS):
            picked = shuffled[start : start + _PROBE_BATCH_ROWS].tolist()
            logits = inner.classifier(pooler(states[picked].unsqueeze(1)))
            cells = cells_of(sample, picked)
            if objective is None:
                loss = soft_cross_entropy(logits, targets[picked], cells).mean()
            else:
                loss = objective(logits, targets[picked], cells, [kept[i] for i in picked]).mean()
            if not torch.isfinite(loss):
                ids = tuple(sample.row_ids[i] for i in picked)
                raise NonFiniteLossError(
                    "the loss of the head is not finite; training stopped, nothing was published",
                    where=f"probe epoch {epoch + 1}, learning rate {rate:.2e}",
                    found=float(loss),
                    next_step="look at these rows: " + ", ".join(ids),
                ).at(0, rate, ids)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def first_token_states(encoder: Any, rows: Encoded, pad_id: int, width: int) -> Any:
    """Return the last hidden state of each row's first token, float32[n, width].

    The encoder is frozen here, so this is the one function to put an activation cache before.
    """
    import torch

    lengths = [len(tokens) for tokens in rows.tokens]
    states = torch.zeros(len(rows), width)
    with torch.no_grad():
        for batch in token_batches(by_length(lengths), lengths, _STATE_BATCH_TOKENS):
            ids, mask = padded([rows.tokens[i] for i in batch], pad_id)
            states[batch] = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    return states
