"""Slices name where a model is weak."""

from __future__ import annotations

import numpy as np

from fm_platform.evaluation.metrics import SystemPredictions
from fm_platform.evaluation.slices import length_buckets, slice_records
from fm_platform.spec.models import Evaluation


def test_buckets_have_closed_lower_edges() -> None:
    assert length_buckets(np.array([0, 39, 40, 79, 160, 320, 9999])) == [
        "chars_000_039", "chars_000_039", "chars_040_079", "chars_040_079", "chars_160_319",
        "chars_320_up", "chars_320_up",
    ]  # fmt: skip


def test_planted_weak_slice_is_found_first() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 600)
    names = np.array(["short"] * 500 + ["long"] * 95 + ["tiny"] * 5)
    right = rng.random(600) < np.where(names == "long", 0.5, 0.9)
    system = SystemPredictions(np.where(right, gold, 1 - gold))

    records = slice_records(
        system, gold, {"length": names.tolist()}, ("a", "b"), Evaluation(bootstrap_samples=200)
    )

    assert [r["slice"] for r in records] == ["length=long", "length=short"]
    assert [r["weak"] for r in records] == [True, False]
