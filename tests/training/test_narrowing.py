"""Training that looks most at the worst group: its arithmetic, its resume, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.hashing import sha256_file
from fm_platform.spec.models import Training
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import Encoded, encode, take
from fm_platform.training.loop import StepInfo
from fm_platform.training.methods import new_adapter
from fm_platform.training.narrowing import NarrowingLoop, least_losses
from fm_platform.training.predict import load_adapter, predict_probabilities
from fm_platform.training.train import TrainedExpert
from fm_platform.training.variants import fit_start_as, train_expert_as
from tests.support.tiny_model import CLASSES, FILLERS, WORDS, rows_of, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(80), tiny_rows(16, 1, split="dev")


def narrowing(between: str = "source", strength: float = 10.0, **changes: Any) -> Training:
    rule = {"between": between, "strength": strength}
    return tiny_config(narrow_gap=rule, checkpoint_every_steps=2, **changes)


def sha(trained: TrainedExpert) -> str:
    return sha256_file(trained.directory / "adapter_model.safetensors")


def loop_of(base: BaseModel, rows: Encoded, config: Training, folder: Path) -> NarrowingLoop:
    return NarrowingLoop(
        new_adapter(base, config, CLASSES, 1), rows, take(rows, [0, 1]), config,
        learning_rate=1e-2, pad_id=0, workdir=folder,
    )  # fmt: skip


# --- arithmetic -----------------------------------------------------------------------------


def test_the_least_loss_is_the_entropy_of_the_targets() -> None:
    targets = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]], np.float32)
    rows = Encoded(["a", "b", "c"], [[1]] * 3, targets, ["s"] * 3)
    cells = np.array([[0, 1, 2], [0, 0, 2], [0, 0, 2]], np.int8)  # the first two not told apart

    entropy = [0.0, np.log(2), -(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5))]
    assert least_losses(rows) == pytest.approx(entropy, abs=1e-6)
    together = Encoded(rows.row_ids, rows.tokens, targets, rows.sources, cells)
    assert least_losses(together) == pytest.approx([0.0, 0.0, np.log(2)], abs=1e-6)


def test_one_step_follows_the_weighted_groups_and_moves_their_weights(
    base: BaseModel, tmp_path: Path
) -> None:
    """One batch of 12 rows, 3 of them of group `chat`: everything can be computed by hand."""
    config = narrowing(strength=2.0, batch_tokens=4096)
    encoded = encode(base.tokenizer(), tiny_rows(12), 24, CLASSES)
    sources = ["chat"] * 3 + ["mail"] * 9
    rows = Encoded(encoded.row_ids, encoded.tokens, encoded.targets, sources)
    loop = loop_of(base, rows, config, tmp_path)
    assert loop.weights.tolist() == [0.25, 0.75]  # it begins as it would without
    loop.weights = np.array([0.4, 0.6])
    plain = super(NarrowingLoop, loop)._losses(rows, range(12)).detach().double().numpy()

    total = loop._accumulate(range(12), 1e-2)
    by_group = np.array([plain[:3].mean(), plain[3:].mean()])
    assert total == pytest.approx(float(np.array([0.4, 0.6]) @ by_group), rel=1e-5)
    assert len(loop.plan) == 1
    loop._step()

    excess = plain - least_losses(rows)
    grown = np.array([0.4, 0.6]) * np.exp(2.0 * np.array([excess[:3].mean(), excess[3:].mean()]))
    assert loop.weights == pytest.approx(grown / grown.sum(), rel=1e-5)
    assert loop.history[-1]["weight/chat"] == loop.weights[0]


def test_a_batch_that_is_cut_for_want_of_memory_is_no_other(
    base: BaseModel, tmp_path: Path
) -> None:
    config = narrowing(batch_tokens=4096)
    rows = encode(base.tokenizer(), tiny_rows(12), 24, CLASSES)
    whole, cut = (loop_of(base, rows, config, tmp_path / name) for name in ("whole", "cut"))
    cut.splits = 3

    for loop in (whole, cut):
        loop._step()

    assert cut.weights == pytest.approx(whole.weights, rel=1e-5)


def test_classes_are_groups_by_name(base: BaseModel, tmp_path: Path) -> None:
    trained = fit_start_as(ROWS, DEV, base, narrowing("class"), CLASSES, tmp_path)

    weights = {k: v for k, v in trained.metrics.items() if k.startswith("weight/")}
    assert set(weights) == {f"weight/{name}" for name in CLASSES}
    assert sum(float(w or 0) for w in weights.values()) == pytest.approx(1.0, abs=1e-5)


def test_what_is_kept_has_the_best_worst_group(base: BaseModel, tmp_path: Path) -> None:
    config = narrowing(epochs=2, evaluations_per_epoch=2)
    trained = fit_start_as(ROWS, DEV, base, config, CLASSES, tmp_path)
    model = load_adapter(base, trained.directory)
    told = predict_probabilities(model, DEV["text"].to_pylist(), max_tokens=24)
    targets = np.array(DEV["probabilities"].to_pylist())

    excess = (targets * (np.log(targets) - np.log(told))).sum(axis=1)
    worst = max(excess[[s == name for s in DEV["source"].to_pylist()]].mean() for name in
                ("chat", "mail"))  # fmt: skip
    assert trained.metrics["dev_loss"] == pytest.approx(worst, abs=1e-4)


def test_an_expert_of_one_source_is_trained_as_without(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    own, dev = rows_of(ROWS, "mail"), rows_of(DEV, "mail")

    plain = train_expert_as(own, dev, base, start, tiny_config(), CLASSES, tmp_path / "a")
    found = train_expert_as(own, dev, base, start, narrowing(), CLASSES, tmp_path / "b")

    assert sha(found) == sha(plain)
    assert "weight/mail" not in found.metrics


# --- interrupted ----------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("between", ["source", "class"])
def test_an_interrupted_training_ends_with_the_same_bits(
    base: BaseModel, start: Path, tmp_path: Path, between: str
) -> None:
    config = narrowing(between)

    def train(folder: str, stop: int | None = None) -> TrainedExpert:
        def on_step(info: StepInfo) -> None:
            if info.step == stop:
                raise Interrupted

        return train_expert_as(
            ROWS, DEV, base, start, config, CLASSES, tmp_path / folder, on_step
        )  # fmt: skip

    whole = train("whole")
    for step in (4, 9):
        with pytest.raises(Interrupted):
            train("killed", step)
    again = train("killed")

    assert again.metrics["resumed_at_step"] == 8
    assert sha(again) == sha(whole)
    assert again.history == whole.history


def test_a_checkpoint_of_other_groups_is_not_used(
    base: BaseModel, start: Path, tmp_path: Path
) -> None:
    def stop(info: StepInfo) -> None:
        if info.step == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_expert_as(ROWS, DEV, base, start, narrowing(), CLASSES, tmp_path, stop)
    turned = ROWS.set_column(
        ROWS.column_names.index("source"), "source", pa.array(ROWS["source"].to_pylist()[::-1])
    )
    again = train_expert_as(turned, DEV, base, start, narrowing(), CLASSES, tmp_path)

    assert "resumed_at_step" not in again.metrics


# --- what it does ---------------------------------------------------------------------------


def planted(count: int, seed: int, share: float, split: str = "train") -> pa.Table:
    """Return rows of two sources; in the rare one the telling word is of the next class.

    There the true class is told by one of two other words, so what is learned of the common
    source is wrong in the rare one until its own words are learned, too.
    """
    generator = np.random.default_rng([seed, count, 9])
    columns: dict[str, list[object]] = {
        name: [] for name in ("row_id", "text", "source", "label", "probabilities")
    }
    for i in range(count):
        rare, true = generator.random() < share, int(generator.integers(3))
        words = [FILLERS[int(j)] for j in generator.integers(6, 10, int(generator.integers(1, 4)))]
        misled = WORDS[CLASSES[(true + 1) % 3 if rare else true]]
        words.insert(int(generator.integers(len(words) + 1)), misled[int(generator.integers(5))])
        if rare:
            words.insert(0, FILLERS[true + 3 * int(generator.integers(2))])
        columns["row_id"].append(f"{split}-{seed}-{i}")
        columns["text"].append(" ".join(words))
        columns["source"].append("rare" if rare else "common")
        columns["label"].append(CLASSES[true])
        columns["probabilities"].append([0.9 if k == true else 0.05 for k in range(3)])
    return pa.table(
        {
            name: pa.array(values, pa.list_(pa.float32()) if name == "probabilities" else None)
            for name, values in columns.items()
        }
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gap_of_a_planted_hard_minority_falls(
    base: BaseModel, tmp_path: Path, seed: int
) -> None:
    rows, dev = planted(800, seed, 0.1), planted(100, seed + 50, 0.1, "dev")
    test = planted(600, 99, 0.5, "test")
    truth = np.array([CLASSES.index(label) for label in test["label"].to_pylist()])
    sources = np.array(test["source"].to_pylist())

    def right(folder: str, **changes: Any) -> dict[str, float]:
        config = tiny_config(
            method="full", full_learning_rate=3e-3, seed=seed, epochs=4, batch_tokens=128,
            start_rows_per_source=800, **changes,
        )  # fmt: skip
        trained = fit_start_as(rows, dev, base, config, CLASSES, tmp_path / folder)
        model = load_adapter(base, trained.directory)
        told = predict_probabilities(model, test["text"].to_pylist(), max_tokens=24).argmax(axis=1)
        return {name: float((told == truth)[sources == name].mean()) for name in set(sources)}

    without, narrowed = right("without"), right("with", narrow_gap={"between": "source"})

    assert without["common"] - without["rare"] > 0.1
    assert abs(narrowed["common"] - narrowed["rare"]) < 0.7 * (without["common"] - without["rare"])
    assert min(narrowed.values()) > without["rare"]
