"""Train LoRA adapters with soft targets.

LoRA: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". The loop is written
out because what it must guarantee is ours: length-bucketed batches, a bit-identical resume, and
a stop at the first value that is not finite. Dropout is off: the model stays in evaluation mode.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import NonFiniteLossError, TrainingError
from fm_platform.spec.models import Training
from fm_platform.training import checkpoint
from fm_platform.training.base_model import (
    BaseModel,
    head_modules,
    linear_layers,
    load_tokenizer,
    new_classifier,
)
from fm_platform.training.data import (
    Encoded,
    balanced_sample,
    batch_plan,
    encode,
    padded,
    take,
    token_batches,
)

ADAPTER_FACTS = "fm_adapter.json"
_DEV_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class StepInfo:
    """One training step: number from 1, number of all, loss, learning rate."""

    step: int
    total: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class TrainedExpert:
    """A trained adapter.

    Attributes:
        directory: Folder with adapter_model.safetensors and adapter_config.json.
        metrics: train_loss, dev_loss, steps, best_step, threads, tokens.
        history: Records {"step", "train_loss"} and {"step", "dev_loss"}.
    """

    directory: Path
    metrics: dict[str, float | int | None]
    history: list[dict[str, float | int]]


OnStep = Callable[[StepInfo], None]


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
        workdir: Belongs to this training alone; an interrupted one resumes from it.
        on_step: Told of every step.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
        TrainingError: If there are no rows, or the start belongs to another base or taxonomy.
    """
    model = load_peft(base, start_dir, classes, config.seed, trainable=True)
    tokenizer = load_tokenizer(base.directory)
    generator = np.random.default_rng([config.seed, 1])
    encoded = encode(tokenizer, rows, config.max_tokens)
    kept = sorted(generator.permutation(len(encoded))[: config.max_rows].tolist())
    return run_training(
        model, take(encoded, kept), encode(tokenizer, dev, config.max_tokens), base, config,
        classes, workdir, config.expert_learning_rate, tokenizer.pad_token_id or 0, on_step,
    )  # fmt: skip


def new_peft(base: BaseModel, config: Training, classes: Sequence[str]) -> Any:
    """Return base + fresh LoRA on all linear layers, head trained in full."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    model = new_classifier(base, tuple(classes), config.seed)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=linear_layers(model),
        modules_to_save=head_modules(model),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return get_peft_model(model, lora).eval()


def load_peft(
    base: BaseModel, adapter: Path, classes: Sequence[str], seed: int, *, trainable: bool
) -> Any:
    """Return base + adapter.

    Raises:
        TrainingError: If the adapter was trained on another base model or taxonomy.
    """
    from peft import PeftModel

    facts = json.loads((adapter / ADAPTER_FACTS).read_text("utf-8"))
    for what, expected, found in (
        ("base model", base.content_hash, facts["base_content_hash"]),
        ("list of classes", list(classes), facts["classes"]),
    ):
        if expected != found:
            raise TrainingError(
                f"the adapter belongs to another {what}",
                where=adapter.name,
                expected=expected,
                found=found,
                next_step="retrain it: adapters are never paired with what they were not made for",
            )
    model = new_classifier(base, tuple(classes), seed)
    return PeftModel.from_pretrained(
        model, str(adapter), is_trainable=trainable, local_files_only=True
    ).eval()


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
    loop = _Loop(model, rows, dev, config, workdir, learning_rate, pad_id, on_step)
    loop.run()
    directory = workdir / "adapter"
    save_adapter(model, directory, base, classes)
    return TrainedExpert(directory, loop.metrics(), loop.history)


class _Loop:
    """One training with everything that a checkpoint must hold."""

    def __init__(
        self,
        model: Any,
        rows: Encoded,
        dev: Encoded,
        config: Training,
        workdir: Path,
        learning_rate: float,
        pad_id: int,
        on_step: OnStep | None,
    ) -> None:
        import torch

        torch.set_num_threads(config.threads)
        self.torch = torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.rows, self.config = model.to(self.device), rows, config
        self.workdir, self.learning_rate, self.pad_id = workdir, learning_rate, pad_id
        self.on_step = on_step
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
        self.step = 0
        self.history: list[dict[str, float | int]] = []
        self.best_loss, self.best_step, self.worse = math.inf, 0, 0
        self.best: dict[str, Any] = {}

    def run(self) -> None:
        self._resume()
        per_epoch = max(1, len(self.plan) // self.config.epochs)
        every = max(1, per_epoch // self.config.evaluations_per_epoch)
        while self.step < len(self.plan) and self.worse < self.config.patience:
            self._step()
            if len(self.dev) and (self.step % every == 0 or self.step == len(self.plan)):
                self._evaluate()
            if self.step % self.config.checkpoint_every_steps == 0:
                self._save()
        if self.best:
            with self.torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(self.best[name])

    def _rate(self) -> float:
        """Linear warm-up, then linear decay to zero."""
        total = len(self.plan)
        warmup = max(1.0, total * self.config.warmup_share)
        up = (self.step + 1) / warmup
        down = (total - self.step) / max(1.0, total - warmup)
        return self.learning_rate * min(1.0, up, down)

    def _step(self) -> None:
        batch = self.plan[self.step]
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(self.rows, batch).mean()
        self.optimizer.zero_grad()
        self._require_finite(loss, "loss", batch, rate)
        loss.backward()
        norm = self.torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.config.max_grad_norm
        )
        self._require_finite(norm, "gradient norm", batch, rate)
        self.optimizer.step()
        self.step += 1
        self.history.append({"step": self.step, "train_loss": round(float(loss), 6)})
        if self.on_step is not None:
            self.on_step(StepInfo(self.step, len(self.plan), float(loss), rate))

    def _loss(self, rows: Encoded, batch: Sequence[int]) -> Any:
        """Return the soft cross entropy float32[b]: -sum(q log p)."""
        torch = self.torch
        ids, mask = padded([rows.tokens[i] for i in batch], self.pad_id)
        targets = torch.from_numpy(rows.targets[list(batch)]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            logits = self.model(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
            ).logits
        return -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(dim=-1)

    def _require_finite(self, value: Any, what: str, batch: Sequence[int], rate: float) -> None:
        if not bool(self.torch.isfinite(value).all()):
            raise NonFiniteLossError(
                f"the {what} is not finite; training stopped and nothing was published",
                where=f"step {self.step + 1} of {len(self.plan)}, learning rate {rate:.2e}",
                found=f"{float(value)}",
                expected="a finite number",
                next_step="look at these rows, or lower training.learning_rate: "
                + ", ".join(self.rows.row_ids[i] for i in batch[:8]),
            )

    def _evaluate(self) -> None:
        lengths = [len(tokens) for tokens in self.dev.tokens]
        order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
        total = 0.0
        with self.torch.inference_mode():
            for batch in token_batches(order, lengths, _DEV_BATCH_TOKENS):
                total += float(self._loss(self.dev, batch).sum())
        loss = total / len(self.dev)
        self.history.append({"step": self.step, "dev_loss": round(loss, 6)})
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
            self.best = {n: p.detach().clone() for n, p in self.parameters.items()}
        else:
            self.worse += 1

    def _save(self) -> None:
        tensors: dict[str, Any] = {f"p.{n}": p for n, p in self.parameters.items()}
        tensors |= {f"b.{n}": p for n, p in self.best.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"o.{key}.{name}"] = self.torch.as_tensor(value)
        state = {
            "step": self.step, "history": self.history, "best_step": self.best_step,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
            "worse": self.worse, "total": len(self.plan),
        }  # fmt: skip
        checkpoint.save(self.workdir, tensors, state)

    def _resume(self) -> None:
        found = checkpoint.load(self.workdir)
        if found is None or found[1]["total"] != len(self.plan):
            return
        tensors, state = found
        with self.torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"p.{name}"])
                prefix, suffix = "o.", f".{name}"
                self.optimizer.state[parameter] = {
                    key[len(prefix) : -len(suffix)]: value.clone()
                    for key, value in tensors.items()
                    if key.startswith(prefix) and key.endswith(suffix)
                    and "." not in key[len(prefix) : -len(suffix)]
                }  # fmt: skip
        self.best = {n: tensors[f"b.{n}"] for n in self.parameters if f"b.{n}" in tensors}
        self.step, self.history = state["step"], state["history"]
        self.best_step, self.worse = state["best_step"], state["worse"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]

    def metrics(self) -> dict[str, float | int | None]:
        losses = [h["train_loss"] for h in self.history if "train_loss" in h]
        return {
            "train_loss": round(float(np.mean(losses[-20:])), 6),
            "dev_loss": None if math.isinf(self.best_loss) else round(self.best_loss, 6),
            "steps": self.step,
            "best_step": self.best_step or self.step,
            "threads": self.config.threads,
            "tokens": sum(len(tokens) for tokens in self.rows.tokens),
        }


def save_adapter(model: Any, directory: Path, base: BaseModel, classes: Sequence[str]) -> None:
    """Write adapter_model.safetensors, adapter_config.json and what the adapter belongs to.

    The base is named as declared, never by its folder on this machine.
    """
    shutil.rmtree(directory, ignore_errors=True)
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.location
        config.revision = base.revision
        config.inference_mode = True
    model.cpu().save_pretrained(str(directory), safe_serialization=True)
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    settings: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    ordered = {
        key: sorted(value) if key in ("target_modules", "modules_to_save") and value else value
        for key, value in settings.items()
    }
    path.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", "utf-8")
    facts = {
        "base": base.location, "base_content_hash": base.content_hash, "classes": list(classes),
    }  # fmt: skip
    (directory / ADAPTER_FACTS).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
