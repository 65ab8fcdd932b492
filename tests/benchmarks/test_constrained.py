"""The benchmark of constrained training: its arithmetic on rows that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.constrained import TITLES, scores, table, ways
from fm_platform.spec.training import NarrowGap


def test_gaps_means_and_worst_values_of_six_rows() -> None:
    gold, told = np.array([0, 0, 1, 1, 0, 1]), [0, 0, 1, 1, 0, 0]
    found = scores(told, gold, ["a"] * 4 + ["b"] * 2, ["bad", "good"])

    # b: F1 of bad 2/3, of good 0; over all rows: bad 6/7, good 4/5
    assert found == pytest.approx(
        {
            "gap_sources": 2 / 3, "gap_classes": 6 / 7 - 4 / 5, "f1": (6 / 7 + 4 / 5) / 2,
            "mean_sources": 2 / 3, "worst_source": 1 / 3, "mean_classes": (6 / 7 + 4 / 5) / 2,
            "worst_class": 4 / 5,
        }, abs=1e-5,
    )  # fmt: skip


def test_the_plain_training_is_compared_with_both_kinds_of_groups() -> None:
    assert list(ways(7.0).values()) == [
        None, NarrowGap(between="source", strength=7), NarrowGap(between="class", strength=7),
    ]  # fmt: skip


def test_several_seeds_are_shown_with_their_spread() -> None:
    told = table({"plain": [dict.fromkeys(TITLES, 0.2), dict.fromkeys(TITLES, 0.4)]})

    assert "0.300 ±0.100" in told
