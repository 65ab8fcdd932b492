"""Where the number of threads is fixed, and put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fm_platform import numerics
from fm_platform.cleaning import confident
from fm_platform.labeling import dependence
from fm_platform.labeling.label_model import fit_label_model
from fm_platform.numerics import one_thread
from fm_platform.spec.models import LabelModelSpec
from tests.labeling.drawn import independent


def threads() -> list[int]:
    """Return the threads of each library that makes NumPy's products."""
    numpys = {one["filepath"] for one in numerics._libraries().info()}
    return [
        one["num_threads"] for one in threadpool_info()
        if one["user_api"] == "blas" and one["filepath"] in numpys
    ]  # fmt: skip


def test_products_are_made_by_one_thread_inside_and_as_before_after() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread():
            assert set(threads()) == {1}
        with pytest.raises(ValueError, match="stop"), one_thread():
            raise ValueError("stop")
        assert threads() == before


def test_a_label_model_is_fitted_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    agreement = dependence.agreement

    def told(sample: dependence.Sample) -> dependence.Floats:
        seen.extend(threads())
        return agreement(sample)

    monkeypatch.setattr(dependence, "agreement", told)
    votes, _ = independent(2_000, [0.8, 0.8, 0.7], prior=0.5)
    votes = np.repeat(votes, 2, axis=1)  # every function has a copy: groups are looked for
    names: Sequence[str] = ["a"] * len(votes)

    with threadpool_limits(2, user_api="blas"):
        nobody = np.zeros(0, np.int64)
        fit_label_model(votes, names, nobody, nobody, 2, LabelModelSpec(per_source=False))

    assert seen
    assert set(seen) == {1}


def test_label_noise_is_judged_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fit = confident._fit

    def told(*given: Any) -> confident.Matrix:
        seen.extend(o["num_threads"] for o in threadpool_info() if o["user_api"] == "blas")
        return fit(*given)

    monkeypatch.setattr(confident, "_fit", told)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 4)).astype(np.float32)

    with threadpool_limits(2, user_api="blas"):
        confident.judge(rows, rng.integers(0, 2, 60), rng.integers(0, 3, 60), 2, rounds=1)

    assert set(seen) == {1}
