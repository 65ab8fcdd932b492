"""Training by another method than plain LoRA, above frozen layers, or with noise in mind.

The same loop, the same batches, the same guarantees; what differs is what of the model is
trained, that the states of frozen layers may come from where they are kept, and which rows are
taken and what each of them costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import TrainingError
from fm_platform.numerics import reproducible
from fm_platform.spec.training import Training
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import Encoded, balanced_sample, batch_plan, encode, take
from fm_platform.training.loop import OnStep, RowLoss, TrainingLoop
from fm_platform.training.masked import settle, train_only_mask
from fm_platform.training.methods import load_trainable, new_adapter, save_any
from fm_platform.training.narrowing import NarrowingLoop, one_group
from fm_platform.training.objective import objective_of
from fm_platform.training.prefix import States, above_prefix
from fm_platform.training.start import probe_head
from fm_platform.training.subset import Vectors, fewer
from fm_platform.training.train import TrainedExpert, require_readable


class AllocatingLoop(TrainingLoop):
    """The loop of AdaLoRA: after each step the ranks are shared out anew.

    What it knows of the importance of ranks is in no checkpoint: an interrupted training begins
    again, and ends with the same bits for that reason.
    """

    def _step(self) -> None:
        super()._step()
        self.model.base_model.update_and_allocate(self.step)

    def _save(self) -> None:
        return None


def fit_start_as(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    on_step: OnStep | None = None,
    states: States | None = None,
    vectors: Vectors | None = None,
) -> TrainedExpert:
    """Train the shared start by the declared method; arguments as for `fit_start`.

    Args:
        rows: Cleaned rows of the train split.
        dev: The same of the dev split.
        base: The base model.
        config: Hyper-parameters.
        classes: Class names, by index.
        workdir: Belongs to this training alone.
        on_step: Told of every step.
        states: What the frozen layers give; None: they are computed with everything else.
        vectors: Gives embeddings where rows are chosen by coverage.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
        TrainingError: If there are no rows, their targets are of another taxonomy, a text has no
            states, or rows that are chosen by coverage have no embeddings.
        BaseModelError: If the base cannot be used.
    """
    with reproducible(config.threads):
        tokenizer = base.tokenizer()
        encoded = encode(tokenizer, rows, config.max_tokens, classes)
        generator = np.random.default_rng([config.seed, 0])
        sample = take(
            encoded, balanced_sample(encoded.sources, config.start_rows_per_source, generator)
        )
        sample = fewer(sample, config, vectors)
        objective = objective_of(sample, config)
        model = new_adapter(base, config, classes, _steps(sample, config))
        require_readable(model, tokenizer, config)
        pad_id = tokenizer.pad_token_id or 0
        with _above(model, config, states):
            if len(sample) and config.probe_epochs:
                probe_head(model, sample, config, pad_id, objective)
            if config.method == "fish":
                train_only_mask(model, sample, config, pad_id)
            loop = run_loop(
                model, sample, encode(tokenizer, dev, config.max_tokens, classes), config,
                workdir, config.rate(start=True), pad_id, on_step,
                AllocatingLoop if config.method == "adalora" else None, objective,
            )  # fmt: skip
        return saved(loop, base, classes, workdir)


def train_expert_as(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    start_dir: Path,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    on_step: OnStep | None = None,
    states: States | None = None,
    vectors: Vectors | None = None,
) -> TrainedExpert:
    """Continue an adapter of the declared method on the rows of one expert.

    Arguments and errors as for `train_expert` and `fit_start_as`. The rows it sees are those that
    `train_expert` would see, or the declared share of them.
    """
    with reproducible(config.threads):
        model = load_trainable(base, start_dir, config, classes)
        tokenizer = base.tokenizer()
        require_readable(model, tokenizer, config)
        generator = np.random.default_rng([config.seed, 1])
        encoded = encode(tokenizer, rows, config.max_tokens, classes)
        kept = sorted(generator.permutation(len(encoded))[: config.max_rows].tolist())
        seen = fewer(take(encoded, kept), config, vectors)
        pad_id = tokenizer.pad_token_id or 0
        with _above(model, config, states):
            if config.method == "fish":
                train_only_mask(model, seen, config, pad_id)
            loop = run_loop(
                model, seen, encode(tokenizer, dev, config.max_tokens, classes), config,
                workdir, config.rate(start=False), pad_id, on_step,
                objective=objective_of(seen, config),
            )  # fmt: skip
        return saved(loop, base, classes, workdir)


def run_loop(
    model: Any,
    rows: Encoded,
    dev: Encoded,
    config: Training,
    workdir: Path,
    learning_rate: float,
    pad_id: int,
    on_step: OnStep | None,
    kind: type[TrainingLoop] | None = None,
    objective: RowLoss | None = None,
) -> TrainingLoop:
    """Train `model` (PEFT) to the end by a loop of some kind; None: of the declared one."""
    if len(rows) == 0:
        raise TrainingError("there are no rows to train on", next_step="see the quarantine table")
    loop = (kind or _declared(rows, config))(
        model, rows, dev, config,
        learning_rate=learning_rate, pad_id=pad_id, workdir=workdir, on_step=on_step,
        objective=objective,
    )  # fmt: skip
    loop.run()
    return loop


def saved(
    loop: TrainingLoop, base: BaseModel, classes: Sequence[str], workdir: Path
) -> TrainedExpert:
    """Save what a loop trained."""
    directory = workdir / "adapter"
    settle(loop.model)
    save_any(loop.model, directory, base, classes)
    metrics = loop.metrics()
    if loop.config.frozen_layers:
        metrics["frozen_layers"] = loop.config.frozen_layers
    return TrainedExpert(directory, metrics, loop.history)


def _above(model: Any, config: Training, states: States | None) -> AbstractContextManager[None]:
    if states is None or not config.frozen_layers:
        return nullcontext()
    return above_prefix(model, config.frozen_layers, states)


def _declared(rows: Encoded, config: Training) -> type[TrainingLoop]:
    """Return the loop for some rows; between fewer than two groups there is no gap to narrow."""
    if config.narrow_gap is None or one_group(rows, config.narrow_gap.between):
        return TrainingLoop
    return NarrowingLoop


def _steps(rows: Encoded, config: Training) -> int:
    """Return how many steps a training of these rows plans."""
    lengths = [len(tokens) for tokens in rows.tokens]
    plans = [
        batch_plan(lengths, config.batch_tokens, np.random.default_rng([config.seed, 2, epoch]))
        for epoch in range(config.epochs)
    ]
    return sum(map(len, plans))
