"""Temperatures and the expected calibration error."""

from __future__ import annotations

import numpy as np

from fm_platform.labeling.calibration import (
    calibrated,
    calibration_error,
    fit_temperature,
    tempered,
)


def drawn(n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are right after `temperature`, and labels."""
    generator = np.random.default_rng(0)
    right = generator.dirichlet(np.ones(3), n)
    labels = (generator.random((n, 1)) > right.cumsum(axis=1)).sum(axis=1)
    return tempered(right, 1 / temperature), labels


def test_the_error_by_hand() -> None:
    told = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])

    # one bin holds both .9, one right: gap .4; one bin both .6, one right: gap .1
    assert np.isclose(calibration_error(told, np.array([0, 1, 0, 0])), 0.25)
    assert calibration_error(told[:0], np.zeros(0, np.int64)) == 0.0


def test_overconfidence_is_found_and_mended() -> None:
    told, labels = drawn(600, temperature=0.4)

    done = calibrated(told, labels)

    assert abs(done["temperature"] - 0.4) < 0.08
    assert done["error"] < done["error_before"] / 2


def test_what_is_right_already_and_what_few_rows_say_stays() -> None:
    assert fit_temperature(*drawn(400, temperature=1.0)) == 1.0
    assert fit_temperature(*drawn(3, temperature=0.4)) == 1.0
    assert calibrated(np.zeros((0, 3)), np.zeros(0, np.int64))["temperature"] == 1.0
