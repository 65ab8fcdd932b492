"""Nearest exemplars: they generalise, and never tell a row its own label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.exemplars import exemplar_function
from fm_platform.labeling.functions import ABSTAIN, LabelingContext
from fm_platform.spec.models import ExemplarFunction

CLASSES = ("bad", "good")


def context(n: int, seed: int, flip: int | None = None) -> tuple[LabelingContext, Any]:
    """Return n rows in two clusters, all of them exemplars; `flip` gives one a wrong label."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    vectors = generator.normal(size=(n, 8)) * 0.1 + np.where(truth[:, None] == 1, 1.0, -1.0)
    labels = truth.copy()
    if flip is not None:
        labels[flip] = 1 - labels[flip]
    ids = [f"{i:032x}" for i in range(n)]
    made = LabelingContext(
        row_embeddings=vectors.astype(np.float32),
        row_votes=np.zeros((n, 0), np.int8),
        row_sources=["a"] * n,
        row_ids=ids,
        exemplar_embeddings=vectors.astype(np.float32),
        exemplar_votes=np.zeros((n, 0), np.int8),
        exemplar_sources=["a"] * n,
        exemplar_ids=ids,
        exemplar_labels=labels.astype(np.int64),
    )
    return made, truth


def votes(made: LabelingContext, **settings: Any) -> Any:
    declared = ExemplarFunction(kind="exemplars", name="e", **settings)
    rows = pa.record_batch({"row_id": made.row_ids, "text": ["x"] * len(made.row_ids)})
    return apply_function(exemplar_function(declared, Path()), [rows], CLASSES, made).votes


def test_clusters_are_told_apart() -> None:
    made, truth = context(60, seed=0)

    assert (votes(made) == truth).all()


def test_an_exemplar_never_gets_its_own_label_back() -> None:
    made, truth = context(60, seed=0, flip=7)

    assert votes(made, inverse_regularization=1e6)[7] == truth[7]


def test_unsure_rows_abstain() -> None:
    made, _ = context(60, seed=0)

    assert (votes(made, minimum_confidence=1.0, inverse_regularization=1e-6) == ABSTAIN).all()


def test_one_class_only_gives_no_vote() -> None:
    made, _ = context(60, seed=0)
    labels = np.zeros(60, np.int64)
    only = LabelingContext(**{**made.__dict__, "exemplar_labels": labels})

    assert (votes(only) == ABSTAIN).all()
