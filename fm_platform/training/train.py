"""Train one expert: a LoRA adapter with soft targets, begun from the shared start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import TrainingError
from fm_platform.numerics import reproducible
from fm_platform.spec.models import Training
from fm_platform.training.adapter import load_peft, save_adapter
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import Encoded, encode, readable_tokens, take
from fm_platform.training.loop import OnStep, StepInfo, TrainingLoop

__all__ = [
    "OnStep",
    "StepInfo",
    "TrainedExpert",
    "require_readable",
    "run_training",
    "train_expert",
]


@dataclass(frozen=True)
class TrainedExpert:
    """A trained adapter.

    Attributes:
        directory: Folder with adapter_model.safetensors and adapter_config.json.
        metrics: train_loss, dev_loss, steps, best_step, threads, tokens, tokens_per_second,
            trained_parameters; resumed_at_step and batch_splits where they apply.
        history: Records {"step", "train_loss"} and {"step", "dev_loss"}.
    """

    directory: Path
    metrics: dict[str, float | int | None]
    history: list[dict[str, float | int]]


def train_expert(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    start_dir: Path,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    on_step: OnStep | None = None,
) -> TrainedExpert:
    """Continue the shared start on the rows of one expert.

    Args:
        rows: Cleaned rows of the train split: row_id, text, source, probabilities.
        dev: The same of the dev split, with weak labels, for early stopping.
        base: The base model.
        start_dir: The shared start's adapter.
        config: Hyper-parameters.
        classes: Class names, by index.
        workdir: Belongs to this training alone; an interrupted one resumes from it and ends
            with the same bytes.
        on_step: Told of every step.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
        TrainingError: If there are no rows, their targets are of another taxonomy, or the start
            belongs to another base or taxonomy.
        BaseModelError: If the base cannot be used.
    """
    with reproducible(config.threads):
        model = load_peft(base, start_dir, classes, config.seed, trainable=True)
        tokenizer = base.tokenizer()
        require_readable(model, tokenizer, config)
        generator = np.random.default_rng([config.seed, 1])
        encoded = encode(tokenizer, rows, config.max_tokens, classes)
        kept = sorted(generator.permutation(len(encoded))[: config.max_rows].tolist())
        return run_training(
            model, take(encoded, kept), encode(tokenizer, dev, config.max_tokens, classes), base,
            config, classes, workdir, config.expert_learning_rate, tokenizer.pad_token_id or 0,
            on_step,
        )  # fmt: skip


def require_readable(model: Any, tokenizer: Any, config: Training) -> None:
    """Refuse texts longer than the base model reads.

    Raises:
        TrainingError: If max_tokens is more than its positions.
    """
    limit = readable_tokens(model.config, tokenizer)
    if config.max_tokens > limit:
        raise TrainingError(
            "training.max_tokens is more than the base model reads",
            expected=f"at most {limit}",
            found=config.max_tokens,
        )


def run_training(
    model: Any,
    rows: Encoded,
    dev: Encoded,
    base: BaseModel,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    learning_rate: float,
    pad_id: int,
    on_step: OnStep | None,
) -> TrainedExpert:
    """Train `model` (PEFT) and save its adapter; see `train_expert`."""
    if len(rows) == 0:
        raise TrainingError("there are no rows to train on", next_step="see the quarantine table")
    loop = TrainingLoop(
        model, rows, dev, config,
        learning_rate=learning_rate, pad_id=pad_id, workdir=workdir, on_step=on_step,
    )  # fmt: skip
    loop.run()
    directory = workdir / "adapter"
    save_adapter(model, directory, base, classes)
    return TrainedExpert(directory, loop.metrics(), loop.history)
