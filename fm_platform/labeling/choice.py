"""Which label model to believe: what the votes themselves predict, and what gold rows show.

Of all fitted models the likeliest, each with the price of its parameters (Schwarz 1978), is the
reference. It predicts how often each of the others, and majority vote, are right. Such a
prediction is as good as the model: where functions agree more often than it says, or it is right
on gold rows less often than it says, it is doubtful.
Gold rows show the same difference with the doubt of their number. The two are pooled by their
precision, and the model with the best outcome is used; majority vote is one of them. Where the
votes and the gold rows contradict one another, majority vote stays unless the rows leave no doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fm_platform.labeling.patterns import Floats

# fixed by benchmarks/label_settings.py, whose generators are not those of benchmarks/labeling.py
_LEAST_DOUBT = 0.005
_DOUBT_OF_MISFIT = 1.5
_DOUBT_OF_ROWS = 0.4
FEW_GOLD_ROWS = 20
"""Gold rows below which they neither fit parameters nor decide by themselves."""
_SURE = 1.64
"""Standard deviations: by chance a difference is above so many in one of twenty cases."""


@dataclass(frozen=True)
class Verdict:
    """How much better one model is than another, in shares of rows that it labels right.

    Attributes:
        predicted: What the votes predict.
        doubt: Standard deviation of that.
        shown: What gold rows show; None without any.
        spread: Standard deviation of that.
        rows: Gold rows.
    """

    predicted: float
    doubt: float
    shown: float | None
    spread: float
    rows: int

    @property
    def expected(self) -> float:
        """Both together, weighted by precision."""
        if self.shown is None:
            return self.predicted
        one, other = self.doubt**-2, self.spread**-2
        return (self.predicted * one + self.shown * other) / (one + other)

    @property
    def deviation(self) -> float:
        """Standard deviation of `expected`."""
        if self.shown is None:
            return self.doubt
        return float((self.doubt**-2 + self.spread**-2) ** -0.5)

    @property
    def better(self) -> bool:
        """Whether to prefer it.

        With few gold rows only where there is less doubt than difference. Where the votes speak
        against it, only where the rows leave no doubt.
        """
        if self.predicted <= 0:
            return self.shown is not None and self.expected > _SURE * self.deviation
        return self.expected > (self.deviation if self.rows < FEW_GOLD_ROWS else 0.0)

    @property
    def worse(self) -> bool:
        """Whether all together speaks against it."""
        return self.expected <= (self.deviation if self.rows < FEW_GOLD_ROWS else 0.0)

    def __str__(self) -> str:
        told = f"the votes predict {100 * self.predicted:+.1f} ± {100 * self.doubt:.1f} points"
        if self.shown is None:
            return f"{told}, there are no gold rows"
        return (
            f"{told}, {self.rows} gold rows show {100 * self.shown:+.1f} ± {100 * self.spread:.1f}"
        )


def compare(
    predicted: float,
    misfit: float,
    gap: float,
    scale: float,
    seen: float,
    right: Floats,
    right_other: Floats,
) -> Verdict:
    """Return how much better one model is than another.

    Args:
        predicted: Difference of their accuracies by the reference.
        misfit: Of the reference, as of `dependence.misfit`.
        gap: How much more or less often than it says the reference is right on gold rows.
        scale: On how many rows they differ, beside the reference and majority vote, 0 to 1. The
            doubts of a reference that fits were measured on the gain over majority vote, and a
            difference is in doubt on the rows where it is made.
        seen: Rows that the reference was fitted on.
        right: float64[g], 1 where the first is right on a gold row.
        right_other: The same for the other.
    """
    doubt = scale * (_LEAST_DOUBT + _DOUBT_OF_ROWS / np.sqrt(max(seen, 1.0)))
    doubt += _DOUBT_OF_MISFIT * misfit + gap + 1e-9
    rows = len(right)
    if not rows:
        return Verdict(predicted, float(doubt), None, 0.0, 0)
    difference = right - right_other
    # one more row, on which they differ: no number of equal rows proves that they always agree
    variance = (float(((difference - difference.mean()) ** 2).sum()) + 1.0) / rows
    return Verdict(
        predicted, float(doubt), float(difference.mean()), float(np.sqrt(variance / rows)), rows
    )
