"""A negative weight makes a model forget a task: by a declared merge, from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.merging.merge import merge_experts
from fm_platform.spec.models import Merge
from fm_platform.training.predict import load_classifier, predict_probabilities
from fm_platform.training.start import fit_start
from fm_platform.training.train import train_expert
from tests.merging.conftest import Family
from tests.support.tiny_model import CLASSES, FILLERS, WORDS, tiny_config


def task(label: str, count: int, seed: int) -> pa.Table:
    """Rows of one class against neutral ones: what an expert of that class learns."""
    generator = np.random.default_rng(seed)
    rows: dict[str, list[object]] = {"row_id": [], "text": [], "source": [], "probabilities": []}
    for i in range(count):
        told = label if i % 2 else "neutral"
        around = [FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=3)]
        words = [*around, WORDS[told][int(generator.integers(5))]]
        rows["row_id"].append(f"{label}-{seed}-{i}")
        rows["text"].append(" ".join(words))
        rows["source"].append(label)
        rows["probabilities"].append([0.96 if name == told else 0.02 for name in CLASSES])
    types = {"probabilities": pa.list_(pa.float32())}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in rows.items()})


@pytest.fixture(scope="module")
def tasks(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A start that knows a little of both tasks, and an expert of each."""
    folder, config = tmp_path_factory.mktemp("tasks"), tiny_config(epochs=3)
    names = ("negative", "positive")
    rows = {name: task(name, 96, 0) for name in names}
    both, none = pa.concat_tables(rows.values()), rows["negative"].slice(0, 0)
    begin = tiny_config(epochs=1)
    start = fit_start(both, none, family.base, begin, CLASSES, folder / "start").directory
    experts = {
        name: train_expert(
            rows[name], none, family.base, start, config, CLASSES, folder / name
        ).directory
        for name in names
    }
    return Family(family.base, start, experts)


def known(tasks: Family, out: Path, weights: dict[str, float]) -> dict[str, float]:
    """Return how sure a merge is of the right class, on new rows of each task."""
    merge = Merge.model_validate({"weights": weights})
    done = merge_experts(tasks.base, tasks.experts, merge, CLASSES, out, start=tasks.start)
    assert done.weights == weights
    model, found = load_classifier(done.directory), {}
    for name in ("negative", "positive"):
        rows = task(name, 60, 5)
        told = predict_probabilities(model, rows["text"].to_pylist())
        own = np.array([i % 2 == 1 for i in range(60)])
        found[name] = float(told[own, CLASSES.index(name)].mean())
    return found


def test_what_is_taken_away_is_forgotten_and_the_rest_stays(tasks: Family, tmp_path: Path) -> None:
    start = known(tasks, tmp_path / "start", {"negative": 0.0, "positive": 0.0})
    taken = known(tasks, tmp_path / "taken", {"negative": -1.0, "positive": 1.0})
    alone = known(tasks, tmp_path / "alone", {"negative": -1.0, "positive": 0.0})

    assert taken["negative"] < start["negative"] - 0.1
    assert taken["positive"] > start["positive"] - 0.05
    assert alone["negative"] < start["negative"] - 0.1
