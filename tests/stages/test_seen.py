"""Rows as the current model sees them, and values that are told in its eyes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fm_platform.lineage import RunContext
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.row_value import removal_order, row_values
from fm_platform.stages.seen import Seen
from fm_platform.training.predict import load_classifier
from tests.stages.small import DAYS, Built


def test_vectors_are_the_mean_hidden_states_of_the_champion(built: Built) -> None:
    ws, loaded, results = built
    seen = Seen(ws, loaded, RunContext(), SilentReporter())
    merged = results["merged"].version
    assert seen.model is not None
    assert seen.model.content_hash == merged.content_hash

    raw = ws.ledger.latest("small", "raw", "raw", DAYS[0])
    assert raw is not None
    rows = tables.read(ws, raw, "raw", ["row_id", "text"]).slice(3, 2).to_pylist()[::-1]
    found = seen.of_rows(raw, {row["row_id"] for row in rows})
    assert len(found) == len(rows)

    classifier = load_classifier(ws.model_path(merged))
    for row in rows:
        length = loaded.spec.training.max_tokens
        read = classifier.tokenizer(
            [row["text"]], truncation=True, max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            told = classifier.model(
                input_ids=read["input_ids"], attention_mask=read["attention_mask"],
                output_hidden_states=True,
            )  # fmt: skip
        np.testing.assert_allclose(
            found[row["row_id"]], told.hidden_states[-1][0].mean(0).numpy(), atol=1e-5
        )


def test_values_are_those_of_the_current_model(built: Built) -> None:
    ws, loaded, results = built
    told = row_values(ws, loaded, RunContext(), SilentReporter())
    assert told["model"] == results["merged"].version.content_hash
    assert "hidden states of merged_model" in told["method"]


def test_of_each_class_the_same_share_is_removed() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    values = np.array([5, 6, 7, 8, 9, 10, 11, 12, 1, 2], float)  # the rare class is worth least
    order = removal_order(values, labels)
    assert order.tolist()[:5] == [0, 1, 8, 2, 3]
    for share in (0.2, 0.5, 0.7):
        kept = labels[order[int(share * len(order)) :]]
        assert set(kept.tolist()) == {0, 1}


def test_the_least_value_goes_first_within_a_class() -> None:
    generator = np.random.default_rng(0)
    labels, values = generator.integers(3, size=60), generator.normal(size=60)
    order = removal_order(values, labels)
    assert sorted(order.tolist()) == list(range(60))
    for label in range(3):
        own = order[labels[order] == label]
        assert values[own].tolist() == sorted(values[own].tolist())


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_have_an_order(rows: int) -> None:
    assert len(removal_order(np.zeros(rows), np.zeros(rows, np.int64))) == rows
