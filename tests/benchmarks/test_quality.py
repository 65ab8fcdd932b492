"""The benchmark of quality: its arithmetic on rows checked by hand, and its larger project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.quality import ASKED, SOURCES, Rows, f1, relabeled, table, write_variant
from fm_platform.stages import tables
from fm_platform.workspace import find_project


def test_f1_is_weighted_by_support_and_kept_apart_by_source() -> None:
    sources = np.repeat(np.array(SOURCES, dtype=object), 3)
    labels = np.array([0, 0, 1] * 4)
    told = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1])

    found = f1(labels, told, sources)

    # movies: class 0 has precision 2/3 and recall 1, class 1 is never found
    assert found == pytest.approx((1.0, 0.8 * 2 / 3, 0.5 / 3, 2 / 3 * 2 / 3 + 2 / 3 / 3))


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ("majority", [[0.5, 0.5], [0.0, 1.0]]),  # the vote shares
        ("gold", [[0.0, 1.0], [1.0, 0.0]]),  # what people say
    ],
)
def test_relabeled_rows_get_the_targets_of_their_own_row(
    labels: str, targets: list[list[float]]
) -> None:
    nothing = np.zeros(0, np.int64)
    weak = pa.table({"row_id": ["a", "b", "c"]})
    votes = np.array([[0, 0], [1, -1], [0, 1]], np.int8)
    gold = {"a": 1, "b": 0, "c": 1}
    rows = Rows(weak, ["f", "g"], {}, votes, nothing, nothing, nothing, nothing, nothing, gold)
    probabilities = tables.lists(np.full((2, 2), 0.5, np.float32), pa.float32())
    cleaned = pa.table({"row_id": ["c", "b"], "probabilities": probabilities})

    found = relabeled(cleaned, rows, 2, labels)

    assert found["probabilities"].to_pylist() == targets


def test_several_seeds_are_shown_with_their_spread() -> None:
    told = table({"merged model": [(0.9, 0.7, 0.7, 0.6), (0.8, 0.7, 0.7, 0.6)]})

    assert "0.850 ±0.050" in told


def test_prompts_and_another_base_are_added_and_all_else_stays(tmp_path: Path) -> None:
    model = tmp_path / "large"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 12}), "utf-8")
    shipped = find_project("sentiment").spec

    write_variant(tmp_path, tmp_path / "causal", model)
    found = find_project("sentiment", tmp_path).spec

    more = found.labeling.functions[len(shipped.labeling.functions) :]
    assert [(f.kind, f.name) for f in more] == [("prompt", f"says_{name}") for name in ASKED]
    assert found.base_model.location == str(model)
    assert found.training.frozen_layers == 8, "the upper third is trained"
    assert found.labeling.functions[: -len(more)] == shipped.labeling.functions
    assert (found.sources, found.cleaning, found.merge) == (
        shipped.sources, shipped.cleaning, shipped.merge,
    )  # fmt: skip
