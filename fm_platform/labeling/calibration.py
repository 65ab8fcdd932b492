"""Calibrated posteriors: whether a label model is as often right as it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from fm_platform.labeling.patterns import Floats, Ints

BINS = 15
_LEAST_PROBABILITY = 1e-3
_DOUBT = 0.35
"""Standard deviation of the logarithm of the temperature, before gold rows are looked at."""
_LEAST_GAIN = 2.0
"""Nats that another temperature than 1 must gain on the gold rows: about p = 0.05."""
_TEMPERATURES = np.exp(np.linspace(-2.0, 1.0, 61))


def calibration_error(probabilities: Floats, labels: Ints, bins: int = BINS) -> float:
    """Return the expected calibration error, 0 to 1; 0 for no rows.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning": the mean gap between confidence and share correct over bins of equal width.

    Args:
        probabilities: float64[n, k].
        labels: int64[n].
        bins: Of the highest probability.
    """
    if not len(labels):
        return 0.0
    confidence = probabilities.max(axis=1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(index, weights=gap, minlength=bins)).sum() / len(labels))


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities to the power of `temperature`, made to sum to 1 again."""
    if temperature == 1.0:
        return probabilities
    powers = np.maximum(probabilities, _LEAST_PROBABILITY * 1e-3) ** temperature
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def fit_temperature(probabilities: Floats, labels: Ints) -> float:
    """Return the exponent under which gold rows are likeliest, or 1 where they show no better.

    Guo et al. 2017, "On calibration of modern neural networks" (temperature scaling), with a
    prior around 1, so that a few gold rows change little and no clear gain changes nothing.

    Args:
        probabilities: float64[n, k], of a model that has not seen these labels.
        labels: int64[n].
    """
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))
    gains = []
    for temperature in _TEMPERATURES.tolist():
        told = tempered(probabilities, temperature)[rows, labels]
        doubt = 0.5 * (np.log(temperature) / _DOUBT) ** 2
        gains.append(float(np.log(np.maximum(told, _LEAST_PROBABILITY)).sum()) - doubt)
    now = float(np.log(np.maximum(probabilities[rows, labels], _LEAST_PROBABILITY)).sum())
    best = int(np.argmax(gains))
    return float(_TEMPERATURES[best]) if gains[best] > now + _LEAST_GAIN else 1.0


def calibrated(probabilities: Floats, labels: Ints, folds: int = 5) -> dict[str, Any]:
    """Return the temperature, and the calibration error before and after, as plain values.

    The error after is that of rows whose temperature was fitted without them.
    """
    temperature = fit_temperature(probabilities, labels)
    after = probabilities.copy()
    if temperature != 1.0:
        for fold in range(min(folds, len(labels))):
            out = np.arange(len(labels)) % folds == fold
            own = fit_temperature(probabilities[~out], labels[~out])
            after[out] = tempered(probabilities[out], own)
    return {
        "rows": len(labels),
        "temperature": round(temperature, 4),
        "error_before": round(calibration_error(probabilities, labels), 4),
        "error": round(calibration_error(after, labels), 4),
    }
