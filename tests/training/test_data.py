"""Batches and targets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.errors import TrainingError
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import (
    balanced_sample,
    batch_plan,
    by_length,
    encode,
    padded,
    token_batches,
)
from tests.support.tiny_model import CLASSES, tiny_rows

LENGTHS = st.lists(st.integers(1, 64), max_size=80)


@given(LENGTHS, st.integers(64, 256), st.integers(0, 3))
def test_a_plan_holds_every_row_once_within_the_budget(
    lengths: list[int], budget: int, seed: int
) -> None:
    plan = batch_plan(lengths, budget, np.random.default_rng(seed))

    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert all(len(b) * max(lengths[i] for i in b) <= budget for b in plan)
    assert plan == batch_plan(lengths, budget, np.random.default_rng(seed))


@given(LENGTHS)
def test_batches_by_length_hold_little_padding(lengths: list[int]) -> None:
    order = by_length(lengths)

    assert [lengths[i] for i in order] == sorted(lengths)
    assert [i for b in token_batches(order, lengths, 128) for i in b] == order


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert token_batches([0, 1, 2], [1, 500, 600], 100) == [[0], [1], [2]]


def test_padding() -> None:
    ids, mask = padded([[5, 6], [7]], pad_id=9)

    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_a_balanced_sample_takes_the_same_of_each_source() -> None:
    sources = ["a"] * 50 + ["b"] * 5

    chosen = balanced_sample(sources, 8, np.random.default_rng(0))

    assert sum(i < 50 for i in chosen) == 8
    assert sum(i >= 50 for i in chosen) == 5
    assert chosen == sorted(set(chosen))


def with_targets(values: list[list[float] | None]) -> pa.Table:
    rows = tiny_rows(len(values))
    column = pa.array(values, pa.list_(pa.float32()))
    return rows.set_column(rows.schema.get_field_index("probabilities"), "probabilities", column)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5, 0.5]], "another list of classes"),
        ([[1.0, 0.0, 0.0], [0.25] * 4], "another list of classes"),
        ([None], "another list of classes"),
        ([[1.0, 1.0, 0.0]], "no probabilities"),
        ([[1.5, -0.5, 0.0]], "no probabilities"),
        ([[float("nan"), 0.5, 0.5]], "no probabilities"),
    ],
)
def test_targets_that_do_not_fit(
    base: BaseModel, values: list[list[float] | None], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        encode(base.tokenizer(), with_targets(values), 16, CLASSES)


def test_rows_are_cut_and_sliced_tables_keep_their_targets(base: BaseModel) -> None:
    rows = tiny_rows(20)
    whole = encode(base.tokenizer(), rows, 6, CLASSES)
    part = encode(base.tokenizer(), rows.slice(7, 5), 6, CLASSES)

    assert max(len(tokens) for tokens in whole.tokens) == 6
    assert part.tokens == whole.tokens[7:12]
    assert np.array_equal(part.targets, whole.targets[7:12])


def test_no_rows(base: BaseModel) -> None:
    assert len(encode(base.tokenizer(), tiny_rows(4).slice(0, 0), 6, CLASSES)) == 0
