"""The shared start of all experts: head first, then a short LoRA warm-up on every source.

Linear probing before fine-tuning keeps the base's features (Kumar et al. 2022, "Fine-Tuning can
Distort Pretrained Features and Underperform Out-of-Distribution"). Experts that begin from one
start stay in one basin of the loss, so that their weighted mean is a good model too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.spec.models import Training
from fm_platform.training.base_model import BaseModel, load_tokenizer
from fm_platform.training.data import Encoded, balanced_sample, encode, padded, take, token_batches
from fm_platform.training.train import OnStep, TrainedExpert, new_peft, run_training

_PROBE_ROWS = 2_000
_PROBE_EPOCHS = 15
_PROBE_BATCH = 128
_PROBE_RATE = 1e-3


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
        TrainingError: If there are no rows.
    """
    model = new_peft(base, config, classes)
    tokenizer = load_tokenizer(base.directory)
    pad_id = tokenizer.pad_token_id or 0
    encoded = encode(tokenizer, rows, config.max_tokens)
    generator = np.random.default_rng([config.seed, 0])
    sample = take(
        encoded, balanced_sample(encoded.sources, config.start_rows_per_source, generator)
    )
    if len(sample):
        probe_head(model, sample, config, pad_id)
    return run_training(
        model, sample, encode(tokenizer, dev, config.max_tokens), base, config, classes, workdir,
        config.learning_rate, pad_id, on_step,
    )  # fmt: skip


def probe_head(model: Any, rows: Encoded, config: Training, pad_id: int) -> None:
    """Fit pooler and classifier on the frozen encoder's first-token states, in place.

    Only for encoders with a pooler over the first token (BERT and its kin); others begin with a
    fresh head.
    """
    import torch

    inner = model.get_base_model()
    encoder: Any = getattr(inner, inner.base_model_prefix, None)
    pooler = getattr(encoder, "pooler", None)
    if pooler is None or not hasattr(inner, "classifier"):
        return
    torch.set_num_threads(config.threads)
    generator = np.random.default_rng([config.seed, 3])
    chosen = sorted(generator.permutation(len(rows))[:_PROBE_ROWS].tolist())
    sample = take(rows, chosen)
    lengths = [len(tokens) for tokens in sample.tokens]
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    states = torch.zeros(len(sample), inner.config.hidden_size)
    with torch.no_grad():
        for batch in token_batches(order, lengths, 4096):
            ids, mask = padded([sample.tokens[i] for i in batch], pad_id)
            states[batch] = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    targets = torch.from_numpy(sample.targets)
    parameters = [p for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n]
    optimizer = torch.optim.AdamW(parameters, lr=_PROBE_RATE, weight_decay=0.01)
    for epoch in range(_PROBE_EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = _PROBE_RATE * (1 - epoch / _PROBE_EPOCHS)
        shuffled = generator.permutation(len(sample))
        for start in range(0, len(sample), _PROBE_BATCH):
            picked = shuffled[start : start + _PROBE_BATCH].tolist()
            logits = inner.classifier(pooler(states[picked].unsqueeze(1)))
            loss = -(targets[picked] * torch.log_softmax(logits, dim=-1)).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
