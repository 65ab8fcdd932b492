"""Pictures are PNGs with content, equal for equal numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fm_platform.evaluation.metrics import SystemPredictions, reliability
from fm_platform.evaluation.plot import loss_curves_png, reliability_png, source_bars_png
from fm_platform.evaluation.table import EvaluationTable, evaluate
from fm_platform.spec.models import Evaluation


@pytest.fixture(scope="module")
def system() -> tuple[SystemPredictions, np.ndarray]:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200)
    gold = np.where(rng.random(200) < 0.5, probabilities.argmax(axis=1), rng.integers(0, 3, 200))
    return SystemPredictions(probabilities.argmax(axis=1), probabilities), gold


@pytest.fixture(scope="module")
def table(system: tuple[SystemPredictions, np.ndarray]) -> EvaluationTable:
    predictions, gold = system
    systems = {
        "merged_model": predictions, "champion": predictions, "expert:<b>": predictions,
        "human": SystemPredictions(gold, None, np.arange(200) % 2 == 0),
    }  # fmt: skip
    return evaluate(
        systems, gold, ["tweets", "mov\x1b[1mies"] * 100, ("a", "b", "c"),
        Evaluation(bootstrap_samples=100),
    )  # fmt: skip


def check(png: bytes) -> None:
    image = Image.open(io.BytesIO(png))
    pixels = np.asarray(image)
    assert image.format == "PNG"
    assert pixels.shape[2] == 4
    assert pixels[..., 3].min() == 0
    assert (pixels[..., 3] > 0).mean() > 0.01
    assert len(png) < 120_000


def test_source_bars(table: EvaluationTable) -> None:
    png = source_bars_png(table)

    check(png)
    assert png == source_bars_png(table)


def test_loss_curves() -> None:
    train = [(float(step), 1 / (1 + step)) for step in range(50)]

    check(loss_curves_png({"tweets": train, "tweets dev": train[::10]}))
    check(loss_curves_png({"empty": []}))


def test_reliability(system: tuple[SystemPredictions, np.ndarray]) -> None:
    check(reliability_png({"merged_model": reliability(*system, bins=10)}))
