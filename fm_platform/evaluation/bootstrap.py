"""A bootstrap over rows, done on sums.

Every metric here is a function of sums over rows (confusion counts, log losses, gaps of
calibration bins). So a resample needs no rows, only how often each row was drawn, and many
systems are measured on the very same resamples, which makes their differences paired.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 13
(percentile interval) and 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHUNK_CELLS = 1 << 22
"""Draws held at once: bounds the memory to tens of MB whatever the number of rows."""


def resampled_sums(
    features: Sequence[Floats], strata: Ints, n_strata: int, *, samples: int, seed: int
) -> list[Floats]:
    """Return the sums of each feature matrix over resampled rows, stratum by stratum.

    Rows are drawn with replacement within their stratum, as many as it has, so that the sum
    over strata is a stratified resample of all rows.

    Args:
        features: Matrices float64[n, d_i]; all see the same resamples.
        strata: int64[n], values in 0..n_strata-1.
        n_strata: Number of strata; an empty one gives zeros.
        samples: Number of resamples.
        seed: Of the generator; the same seed and strata give the same resamples.

    Returns:
        For each matrix float64[samples, n_strata, d_i].
    """
    out = [np.zeros((samples, n_strata, matrix.shape[1])) for matrix in features]
    generator = np.random.default_rng(seed)
    for stratum in range(n_strata):
        rows = np.flatnonzero(strata == stratum)
        if rows.size == 0:
            continue
        parts = [np.ascontiguousarray(matrix[rows]) for matrix in features]
        chunk = max(1, _CHUNK_CELLS // rows.size)
        for start in range(0, samples, chunk):
            stop = min(start + chunk, samples)
            counts = _draw_counts(generator, stop - start, rows.size)
            for result, part in zip(out, parts, strict=True):
                result[start:stop, stratum] = counts @ part
    return out


def stratum_sums(matrix: Floats, strata: Ints, n_strata: int) -> Floats:
    """Return float64[n_strata, d]: the sums of the rows themselves."""
    sums = np.zeros((n_strata, matrix.shape[1]))
    np.add.at(sums, strata, matrix)
    return sums


def percentile_interval(values: Floats, level: float) -> tuple[float, float]:
    """Return the percentile interval of `values` float64[samples] at confidence `level`."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _draw_counts(generator: np.random.Generator, samples: int, rows: int) -> Floats:
    """Return float64[samples, rows]: how often each row was drawn."""
    drawn = generator.integers(0, rows, size=(samples, rows), dtype=np.int64)
    drawn += np.arange(samples, dtype=np.int64)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=samples * rows)
    return counts.reshape(samples, rows).astype(np.float64)
