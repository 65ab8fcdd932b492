"""How sure it is that a suggested labeling function is right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.labeling.diagnostics import wilson
from fm_platform.labeling.suggest import Believed, Declared, first_that_holds, interval, judge


def rows(belief: list[float], gold: bool = False, others: list[int] | None = None) -> Believed:
    """Rows of two classes; the probabilities of class 1."""
    n = len(belief)
    told = np.array(belief)
    return Believed(
        pa.record_batch({"row_id": [str(i) for i in range(n)]}),
        np.stack([1 - told, told], axis=1), np.ones(n, np.bool_), np.full(n, gold),
        np.array(others or [-1] * n, np.int8).reshape(n, 1), ("other",),
    )  # fmt: skip


def says(hits: int) -> Declared:
    return {"kind": "rule", "name": f"first_{hits}", "hits": hits}


def apply(declared: Declared, batch: pa.RecordBatch) -> np.ndarray:
    """Votes 1 on the first rows."""
    return np.where(np.arange(batch.num_rows) < declared["hits"], 1, -1).astype(np.int8)


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_is_wilsons(right: int, more: int) -> None:
    n = right + more
    np.testing.assert_allclose(interval(right, n, 0.025), wilson(right, n), atol=1e-6)


def test_a_vote_counts_as_right_by_what_is_believed() -> None:
    (found,) = judge([says(40)], rows([0.9] * 40 + [0.1] * 40), apply, 0.7, {})

    assert (found.hits, found.coverage, found.new) == (40, 0.5, 0.5)
    assert found.precision == pytest.approx(0.9)
    assert found.accepted


def test_few_rows_are_not_enough_and_many_candidates_need_more() -> None:
    sure = rows([1.0] * 9)

    assert judge([says(9)], sure, apply, 0.7, {})[0].accepted
    assert not judge([says(5)], sure, apply, 0.7, {})[0].accepted
    assert not any(s.accepted for s in judge([says(9)] * 20, sure, apply, 0.7, {}))


def test_people_may_contradict_and_an_echo_is_none() -> None:
    weak = rows([0.95] * 60)
    wrong = Believed(
        weak.batch, np.where(np.arange(60)[:, None] < 5, [1.0, 0.0], weak.belief), weak.known,
        np.arange(60) < 5, weak.votes, weak.functions,
    )  # fmt: skip
    echoed = rows([0.95] * 60, others=[1] * 57 + [-1] * 3)

    assert (
        judge([says(60)], wrong, apply, 0.7, {})[0].why == "people agree with 0 of 5 of its votes"
    )
    assert judge([says(60)], echoed, apply, 0.7, {})[0].why == "other says nearly the same"


def test_the_search_takes_the_widest_that_holds() -> None:
    there = rows([0.95] * 30 + [0.1] * 30)

    found = first_that_holds([says(60), says(32), says(20)], there, apply, 0.7, 10)

    assert found == says(32)
    assert first_that_holds([says(60), says(9)], there, apply, 0.7, 10) is None
