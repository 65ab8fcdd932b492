"""The training loop. It is written out because what it must guarantee is ours.

Length-bucketed batches, a bit-identical resume, and a stop at the first value that is not
finite. Dropout is off: the model stays in evaluation mode.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm_platform.errors import NonFiniteLossError, TrainingError
from fm_platform.hashing import canonical_json
from fm_platform.losses import soft_cross_entropy
from fm_platform.spec.models import Training
from fm_platform.training import checkpoint
from fm_platform.training.data import (
    Encoded,
    balanced_sample,
    batch_plan,
    by_length,
    cells_of,
    padded,
    take,
    token_batches,
)
from fm_platform.training.fused import fused

_DEV_BATCH_TOKENS = 4096
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class StepInfo:
    """One training step.

    Attributes:
        step: Number from 1.
        total: Steps planned; early stopping may end before.
        loss: Mean soft cross entropy of the batch, in nats.
        learning_rate: Of this step.
        tokens_per_second: Text tokens since this process took up the training.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    tokens_per_second: float


OnStep = Callable[[StepInfo], None]
RowLoss = Callable[[Any, Any, Any | None, Sequence[int]], Any]
"""(logits, targets, cells, positions of the rows) -> the loss of each row, float32[b]."""


class TrainingLoop:
    """One training with everything that a checkpoint must hold.

    Args:
        model: A model with trainable parameters, in evaluation mode; trained in place.
        rows: Training rows.
        dev: Rows for early stopping; may be none.
        config: Hyper-parameters.
        learning_rate: Peak of this training.
        pad_id: Token that fills up a batch.
        workdir: Folder of this training's checkpoints.
        on_step: Told of every step.
        objective: Loss of training rows; None: soft cross entropy, as for dev rows.
    """

    def __init__(
        self,
        model: Any,
        rows: Encoded,
        dev: Encoded,
        config: Training,
        *,
        learning_rate: float,
        pad_id: int,
        workdir: Path,
        on_step: OnStep | None = None,
        objective: RowLoss | None = None,
    ) -> None:
        import torch

        self.torch = torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.rows, self.config = model.to(self.device), rows, config
        self.learning_rate, self.pad_id = learning_rate, pad_id
        self.workdir, self.on_step, self.objective = workdir, on_step, objective
        sample = balanced_sample(dev.sources, config.max_dev_rows, np.random.default_rng(0))
        self.dev = take(dev, sample)
        lengths = [len(tokens) for tokens in rows.tokens]
        self.plan = [
            batch
            for epoch in range(config.epochs)
            for batch in batch_plan(
                lengths, config.batch_tokens, np.random.default_rng([config.seed, 2, epoch])
            )
        ]
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=learning_rate, weight_decay=config.weight_decay
        )
        self.identity = self._identity()
        self.step, self.resumed_at, self.splits = 0, 0, 1
        self.history: list[dict[str, float | int]] = []
        self.best_loss, self.best_step, self.worse = math.inf, 0, 0
        self.best: dict[str, Any] = {}
        self._started, self._tokens = time.perf_counter(), 0

    def run(self) -> None:
        """Train to the end or to early stopping; the parameters of the best dev loss stay.

        Raises:
            NonFiniteLossError: At the first loss or gradient that is not finite.
            TrainingError: If not even one row fits into the memory of the device.
        """
        self._resume()
        evaluations = self.config.epochs * self.config.evaluations_per_epoch
        every = max(1, -(-len(self.plan) // evaluations))
        if self.step == 0 and len(self.dev):
            # Told, but never chosen: on some hundred weak labels a little is noise, and experts
            # that all fell back to the start would leave nothing to merge.
            self.history.append({"step": 0, "dev_loss": round(self._dev_loss(), 6)})
        with fused(self.model):
            while self.step < len(self.plan) and self.worse < self.config.patience:
                self._step()
                if len(self.dev) and (self.step % every == 0 or self.step == len(self.plan)):
                    self._evaluate()
                if self.step % self.config.checkpoint_every_steps == 0:
                    self._save()
        with self.torch.no_grad():
            for name, value in self.best.items():
                self.parameters[name].copy_(value)

    def metrics(self) -> dict[str, float | int | None]:
        """Return the numbers of this training; losses in nats."""
        losses = [point["train_loss"] for point in self.history if "train_loss" in point]
        found: dict[str, float | int | None] = {
            "train_loss": round(float(np.mean(losses[-20:])), 6),
            "dev_loss": None if math.isinf(self.best_loss) else round(self.best_loss, 6),
            "steps": self.step,
            "best_step": self.best_step if len(self.dev) else self.step,
            "threads": self.torch.get_num_threads(),
            "tokens": sum(len(tokens) for tokens in self.rows.tokens),
            "trained_parameters": sum(p.numel() for p in self.parameters.values()),
            "tokens_per_second": round(self._speed(), 1),
        }
        if self.resumed_at:
            found["resumed_at_step"] = self.resumed_at
        if self.splits > 1:
            found["batch_splits"] = self.splits
        return found

    def _rate(self) -> float:
        """Linear warm-up, then linear decay to zero."""
        total = len(self.plan)
        warmup = max(1.0, total * self.config.warmup_share)
        up = (self.step + 1) / warmup
        down = (total - self.step) / max(1.0, total - warmup)
        return self.learning_rate * min(1.0, up, down)

    def _step(self) -> None:
        batch, rate = self.plan[self.step], self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._backward(batch, rate)
        norm = self.torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.config.max_grad_norm
        )
        self._require_finite(float(norm), "gradient norm", batch, rate)
        self.optimizer.step()
        self.step += 1
        self._tokens += sum(len(self.rows.tokens[i]) for i in batch)
        self.history.append({"step": self.step, "train_loss": round(loss, 6)})
        if self.on_step is not None:
            self.on_step(StepInfo(self.step, len(self.plan), loss, rate, self._speed()))

    def _backward(self, batch: Sequence[int], rate: float) -> float:
        """Leave the gradient of the mean loss; out of memory, the batch is halved and goes on."""
        while True:
            try:
                return self._accumulate(batch, rate)
            except self.torch.OutOfMemoryError as error:
                if self.splits >= len(batch):
                    raise TrainingError(
                        "one row alone does not fit into the memory of the device",
                        where=f"step {self.step + 1}, row {self.rows.row_ids[batch[0]]}",
                        next_step="lower training.max_tokens or take a smaller base model",
                    ) from error
                self.splits *= 2
                self.torch.cuda.empty_cache()

    def _accumulate(self, batch: Sequence[int], rate: float) -> float:
        self.optimizer.zero_grad()
        size, total = -(-len(batch) // self.splits), 0.0
        for start in range(0, len(batch), size):
            loss = self._losses(self.rows, batch[start : start + size]).sum() / len(batch)
            total += float(loss.detach())
            self._require_finite(total, "loss", batch, rate)
            loss.backward()
        return total

    def _losses(self, rows: Encoded, batch: Sequence[int]) -> Any:
        """Return the loss float32[b] of rows; classes not told apart count by their sum."""
        torch = self.torch
        ids, mask = padded([rows.tokens[i] for i in batch], self.pad_id)
        targets = torch.from_numpy(rows.targets[list(batch)]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
            ).logits
        cells = cells_of(rows, batch)
        cells = None if cells is None else cells.to(self.device)
        if self.objective is not None and rows is self.rows:
            return self.objective(logits.float(), targets, cells, batch)
        return soft_cross_entropy(logits.float(), targets, cells)

    def _require_finite(self, value: float, what: str, batch: Sequence[int], rate: float) -> None:
        if math.isfinite(value):
            return
        rows = tuple(self.rows.row_ids[i] for i in batch)
        raise NonFiniteLossError(
            f"the {what} is not finite; training stopped and nothing was published",
            where=f"step {self.step + 1} of {len(self.plan)}, learning rate {rate:.2e}",
            expected="a finite number",
            found=value,
            next_step="look at these rows, or lower the learning rate: " + ", ".join(rows),
        ).at(self.step + 1, rate, rows)

    def _evaluate(self) -> None:
        loss = self._dev_loss()
        self.history.append({"step": self.step, "dev_loss": round(loss, 6)})
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
            self.best = {n: p.detach().clone() for n, p in self.parameters.items()}
        else:
            self.worse += 1

    def _dev_loss(self) -> float:
        """Return the mean soft cross entropy of the dev rows, in nats."""
        lengths = [len(tokens) for tokens in self.dev.tokens]
        total = 0.0
        with self.torch.inference_mode():
            for batch in token_batches(by_length(lengths), lengths, _DEV_BATCH_TOKENS):
                total += float(self._losses(self.dev, batch).sum())
        loss = total / len(self.dev)
        if not math.isfinite(loss):
            trained = self.plan[max(self.step - 1, 0)]
            self._require_finite(loss, "loss on the dev rows", trained, self._rate())
        return loss

    def _speed(self) -> float:
        return self._tokens / max(time.perf_counter() - self._started, 1e-9)

    def _identity(self) -> str:
        """Hash what this training begins with: settings, rows, targets, parameters."""
        digest = hashlib.sha256()
        settings = self.config.model_dump(exclude={"checkpoint_every_steps"})
        digest.update(canonical_json([settings, self.learning_rate, self.pad_id]).encode())
        for rows in (self.rows, self.dev):
            digest.update(canonical_json([rows.row_ids, rows.tokens]).encode())
            digest.update(rows.targets.tobytes())
            digest.update(b"" if rows.cells is None else rows.cells.tobytes())
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _save(self) -> None:
        tensors: dict[str, Any] = {f"parameter/{n}": p for n, p in self.parameters.items()}
        tensors |= {f"best/{n}": p for n, p in self.best.items()}
        for name, parameter in self.parameters.items():
            for key in _MOMENTS:
                tensors[f"{key}/{name}"] = self.optimizer.state[parameter][key]
        state = {
            "step": self.step, "history": self.history, "best_step": self.best_step,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "worse": self.worse, "splits": self.splits,
        }  # fmt: skip
        checkpoint.save(self.workdir, tensors, state, self.identity)

    def _resume(self) -> None:
        found = checkpoint.load(self.workdir, self.identity)
        if found is None:
            return
        tensors, state = found
        with self.torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(self.device)
                    for key, value in ((key, tensors[f"{key}/{name}"]) for key in _MOMENTS)
                }
        self.best = {
            n: tensors[f"best/{n}"].to(self.device)
            for n in self.parameters
            if f"best/{n}" in tensors
        }
        self.step = self.resumed_at = state["step"]
        self.history, self.splits = state["history"], state["splits"]
        self.best_step, self.worse = state["best_step"], state["worse"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
