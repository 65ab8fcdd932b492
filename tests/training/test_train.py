"""Training: the same bits again, the first bad number stops it, nothing global is changed."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fm_platform.errors import NonFiniteLossError, TrainingError
from fm_platform.spec.models import Training
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.loop import StepInfo, TrainingLoop
from fm_platform.training.train import TrainedExpert, train_expert
from tests.support.tiny_model import CLASSES, build_tiny_base, tiny_config, tiny_rows

STEPS = 10
ROWS, DEV = tiny_rows(80), tiny_rows(16, 1, split="dev")
FILES = ("adapter_config.json", "adapter_model.safetensors", "fm_adapter.json")
Train = Callable[..., TrainedExpert]


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def stop_after(step: int) -> Callable[[StepInfo], None]:
    def on_step(info: StepInfo) -> None:
        if info.step == step:
            raise Interrupted

    return on_step


def bits(trained: TrainedExpert) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(trained.directory.iterdir())}


@pytest.fixture
def train(base: BaseModel, start: Path, tmp_path: Path) -> Train:
    def run(name: str = "work", on_step: Any = None, rows: Any = ROWS, **changes: Any) -> Any:
        return train_expert(
            rows, DEV, base, start, tiny_config(**changes), CLASSES, tmp_path / name, on_step
        )

    return run


@pytest.fixture(scope="module")
def reference(
    base: BaseModel, start: Path, tmp_path_factory: pytest.TempPathFactory
) -> TrainedExpert:
    workdir = tmp_path_factory.mktemp("reference")
    return train_expert(ROWS, DEV, base, start, tiny_config(), CLASSES, workdir)


def test_what_is_written(reference: TrainedExpert, base: BaseModel) -> None:
    assert tuple(bits(reference)) == FILES
    config = json.loads((reference.directory / "adapter_config.json").read_text())
    facts = json.loads((reference.directory / "fm_adapter.json").read_text())

    assert config["base_model_name_or_path"] == "base"
    assert config["modules_to_save"] == ["classifier", "pooler"]
    assert set(config["target_modules"]) == {
        "intermediate.dense", "output.dense", "self.key", "self.query", "self.value",
    }  # fmt: skip
    assert facts == {
        "base": "base", "base_content_hash": base.content_hash, "classes": list(CLASSES),
    }  # fmt: skip
    assert str(base.directory).encode() not in b"".join(bits(reference).values())


def test_a_training_is_long_enough_for_these_tests(reference: TrainedExpert) -> None:
    assert int(reference.metrics["steps"] or 0) >= STEPS


def test_the_numbers_of_a_training(reference: TrainedExpert) -> None:
    metrics = reference.metrics

    assert metrics["threads"] == 1
    assert metrics["steps"] == sum("train_loss" in point for point in reference.history)
    assert metrics["dev_loss"] == min(
        point["dev_loss"] for point in reference.history if "dev_loss" in point and point["step"]
    )
    assert "resumed_at_step" not in metrics


def test_every_step_is_told(train: Train) -> None:
    seen: list[StepInfo] = []
    trained = train(on_step=seen.append, warmup_share=0.25)

    assert [info.step for info in seen] == list(range(1, seen[0].total + 1))
    assert trained.metrics["steps"] == seen[0].total
    rates = [info.learning_rate for info in seen]
    top = rates.index(max(rates))
    assert max(rates) <= 1e-2
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(info.tokens_per_second > 0 and math.isfinite(info.loss) for info in seen)


def test_the_same_bits_again_whatever_the_global_seed(
    train: Train, reference: TrainedExpert
) -> None:
    torch.manual_seed(99)
    np.random.seed(99)

    assert bits(train()) == bits(reference)


@pytest.mark.parametrize("step", [1, 4, 5, 8, 10])
def test_an_interrupted_training_ends_with_the_same_bits(
    train: Train, reference: TrainedExpert, step: int
) -> None:
    with pytest.raises(Interrupted):
        train(on_step=stop_after(step))
    again = train()

    assert bits(again) == bits(reference)
    assert again.history == reference.history
    assert again.metrics.get("resumed_at_step", 0) == (step - 1) // 4 * 4


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_tampered_checkpoint_is_not_used(
    train: Train, reference: TrainedExpert, tmp_path: Path, name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with pytest.raises(Interrupted):
        train(on_step=stop_after(6))
    path = tmp_path / "work" / "checkpoint" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    again = train()

    assert bits(again) == bits(reference)
    assert "resumed_at_step" not in again.metrics
    assert "checkpoint not used" in caplog.text


@pytest.mark.parametrize(
    "changes", [{"seed": 5}, {"weight_decay": 0.5}, {"rows": tiny_rows(80, 9)}]
)
def test_a_checkpoint_of_another_training_is_not_used(
    train: Train, changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(on_step=stop_after(6))
    again = train(**changes)

    assert "resumed_at_step" not in again.metrics
    assert bits(again) == bits(train("fresh", **changes))


def test_nothing_global_is_changed(train: Train) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    threads, mode = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train()

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == mode


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_that_is_not_finite_stops_at_its_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    bad, value = rng.randint(1, STEPS), rng.choice([math.nan, math.inf, -math.inf])
    real = TrainingLoop._losses
    told: list[StepInfo] = []

    def losses(self: TrainingLoop, rows: Any, batch: Any) -> Any:
        found = real(self, rows, batch)
        return found * value if rows is self.rows and self.step + 1 == bad else found

    monkeypatch.setattr(TrainingLoop, "_losses", losses)
    with pytest.raises(NonFiniteLossError) as caught:
        train(on_step=told.append)

    error = caught.value
    assert error.step == bad == len(told) + 1
    assert f"step {bad} of" in str(error)
    assert f"learning rate {error.learning_rate:.2e}" in str(error)
    assert error.row_ids
    assert all(row in str(error) for row in error.row_ids)
    assert not (tmp_path / "work" / "adapter").exists()


def test_a_gradient_that_is_not_finite_stops(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: torch.tensor(float("inf")))
    with pytest.raises(NonFiniteLossError, match="gradient norm is not finite"):
        train()

    assert not (tmp_path / "work" / "adapter").exists()


def test_a_dev_loss_that_is_not_finite_stops(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TrainingLoop._losses

    def losses(self: TrainingLoop, rows: Any, batch: Any) -> Any:
        return real(self, rows, batch) * (math.nan if rows is self.dev else 1.0)

    monkeypatch.setattr(TrainingLoop, "_losses", losses)
    with pytest.raises(NonFiniteLossError, match="dev rows"):
        train()


def test_out_of_memory_halves_the_batch_and_goes_on(
    train: Train, monkeypatch: pytest.MonkeyPatch, reference: TrainedExpert
) -> None:
    real = TrainingLoop._losses

    def losses(self: TrainingLoop, rows: Any, batch: Any) -> Any:
        if rows is self.rows and len(batch) > 3:
            raise torch.OutOfMemoryError("the device is full")
        return real(self, rows, batch)

    monkeypatch.setattr(TrainingLoop, "_losses", losses)
    trained = train()

    assert trained.metrics["batch_splits"] in (4, 8)
    assert trained.metrics["dev_loss"] == pytest.approx(reference.metrics["dev_loss"], abs=1e-4)


def test_one_row_that_does_not_fit_is_named(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(self: TrainingLoop, rows: Any, batch: Any) -> Any:
        raise torch.OutOfMemoryError("the device is full")

    monkeypatch.setattr(TrainingLoop, "_losses", losses)
    monkeypatch.setattr(TrainingLoop, "_dev_loss", lambda self: 1.0)
    with pytest.raises(TrainingError, match="does not fit into the memory"):
        train()


def test_the_parameters_of_the_best_dev_loss_are_kept(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.9, 0.7, 0.8])  # of the start, then of three evaluations
    monkeypatch.setattr(TrainingLoop, "_dev_loss", lambda self: next(losses))
    trained = train(epochs=1, evaluations_per_epoch=3)
    steps = [point["step"] for point in trained.history if "dev_loss" in point]

    assert len(steps) == 4
    assert trained.metrics["best_step"] == steps[2]
    assert trained.metrics["dev_loss"] == 0.7


def test_patience_ends_a_training_early(train: Train) -> None:
    trained = train(expert_learning_rate=0.9, epochs=8, evaluations_per_epoch=4, patience=1)

    assert trained.metrics["steps"] < 8 * STEPS


def test_no_rows(train: Train) -> None:
    with pytest.raises(TrainingError, match="no rows"):
        train(rows=ROWS.slice(0, 0))


def test_without_dev_rows_all_steps_count(base: BaseModel, start: Path, tmp_path: Path) -> None:
    trained = train_expert(ROWS, DEV.slice(0, 0), base, start, tiny_config(), CLASSES, tmp_path)

    assert trained.metrics["dev_loss"] is None
    assert trained.metrics["best_step"] == trained.metrics["steps"]


def test_longer_texts_than_the_base_reads(train: Train) -> None:
    with pytest.raises(TrainingError, match="more than the base model reads"):
        train(max_tokens=512)


def test_another_list_of_classes(base: BaseModel, start: Path, tmp_path: Path) -> None:
    config: Training = tiny_config()
    with pytest.raises(TrainingError, match="another list of classes"):
        train_expert(ROWS, DEV, base, start, config, ("no", "maybe", "yes"), tmp_path)


def test_a_start_of_another_base(start: Path, tmp_path: Path) -> None:
    build_tiny_base(tmp_path / "other", seed=1)
    spec = type("Spec", (), {"location": "other", "revision": None, "weights_sha256": None})
    other = resolve_base_model(spec, tmp_path)  # type: ignore[arg-type]

    with pytest.raises(TrainingError, match="another base model"):
        train_expert(ROWS, DEV, other, start, tiny_config(), CLASSES, tmp_path / "work")


def damaged_start(start: Path, tmp_path: Path, damage: str) -> Path:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "start"
    shutil.copytree(start, copy)
    weights = copy / "adapter_model.safetensors"
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    if damage == "missing":
        del tensors[first]
    elif damage == "unexpected":
        tensors["more"] = torch.ones(1)
    elif damage == "not finite":
        tensors[first].view(-1)[0] = math.nan
    save_file(tensors, weights)
    if damage == "pickled":
        weights.rename(copy / "adapter_model.bin")
    if damage == "foreign":
        path = copy / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"megatron_config": {"a": 1}}))
    return copy


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "missing"),
        ("unexpected", "unexpected more"),
        ("not finite", "not finite"),
        ("pickled", "not a plain adapter"),
        ("foreign", "megatron_config"),
    ],
)
def test_a_start_that_was_tampered_with(
    base: BaseModel, start: Path, tmp_path: Path, damage: str, message: str
) -> None:
    broken = damaged_start(start, tmp_path, damage)

    with pytest.raises(TrainingError, match=message):
        train_expert(ROWS, DEV, base, broken, tiny_config(), CLASSES, tmp_path / "work")


def test_rows_that_tell_all_classes_apart_train_as_without_cells(
    train: Train, reference: TrainedExpert
) -> None:
    nothing = pa.nulls(ROWS.num_rows, pa.list_(pa.int8()))

    assert bits(train(rows=ROWS.append_column("cells", nothing))) == bits(reference)


def test_a_partial_label_leaves_open_which_part_it_is(train: Train) -> None:
    # every row says "neutral or positive", and puts all of it on positive
    k = len(CLASSES)
    target = [[0.0] * (k - 1) + [1.0]] * ROWS.num_rows
    place = ROWS.schema.get_field_index("probabilities")
    rows = ROWS.set_column(place, "probabilities", pa.array(target, pa.list_(pa.float32())))
    together = pa.array([[0, *[1] * (k - 1)]] * ROWS.num_rows, pa.list_(pa.int8()))

    whole, partial = (
        train("whole", rows=rows),
        train("partial", rows=rows.append_column("cells", together)),
    )

    losses = [t.metrics["train_loss"] for t in (whole, partial)]
    assert losses[1] < losses[0]  # log of a sum is more than the log of one part
    assert bits(whole) != bits(partial)
