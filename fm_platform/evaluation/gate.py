"""The gate: a challenger takes the champion's place only if it is not worse anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.metrics import (
    ALL,
    Difference,
    SystemPredictions,
    differences,
    measure,
)
from fm_platform.spec.models import Evaluation, Gate


@dataclass(frozen=True)
class GateDecision:
    """Whether a challenger becomes champion, and why.

    Attributes:
        promote: The decision.
        reason: One or two sentences with the numbers that decided.
        metric: What was compared.
        tolerance: How much worse is still not worse.
        minimum: Least value overall, or None.
        value: The challenger's value overall.
        differences: Challenger - champion, `all` first, then per source; empty for a first model.
    """

    promote: bool
    reason: str
    metric: str
    tolerance: float
    minimum: float | None
    value: float
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the decision and its numbers, for the ledger."""
        return {
            "promote": self.promote,
            "reason": self.reason,
            "metric": self.metric,
            "tolerance": self.tolerance,
            "minimum": self.minimum,
            "value": self.value,
            "differences": [difference.to_json() for difference in self.differences],
        }

    def records(self) -> list[dict[str, Any]]:
        """Return one record per source for a small table."""
        return [
            {
                "source": difference.source,
                "n": difference.n,
                "challenger": difference.ours,
                "champion": difference.theirs,
                "difference": difference.interval.value,
                "low": difference.interval.low,
                "high": difference.interval.high,
                "verdict": _verdict(difference, self.tolerance),
            }
            for difference in self.differences
        ]


def gate(
    challenger: SystemPredictions,
    champion: SystemPredictions | None,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    rule: Gate,
) -> GateDecision:
    """Decide whether `challenger` becomes champion.

    It is refused where its value overall is below the minimum, or where the paired bootstrap
    interval of challenger - champion lies wholly below -tolerance, overall or on any source.
    Each interval has the confidence level of `evaluation`: the more sources, the more often an
    equal challenger is refused by chance (about 2.5 % for each at level 0.95).

    Args:
        challenger: Predictions on the rows of `gold`.
        champion: Predictions on the same rows, or None where there is no champion yet.
        gold: int[n] class indices.
        sources: n source names.
        classes: Class names.
        evaluation: Resamples, level, seed.
        rule: Metric, tolerance, minimum.

    Raises:
        EvaluationError: If there are no rows or predictions do not match them.
    """
    if champion is None:
        overall = measure({"challenger": challenger}, gold, sources, len(classes), evaluation)
        interval = overall["challenger"][ALL].values[rule.metric]
        value = interval.value if interval is not None else 0.0
        found: tuple[Difference, ...] = ()
    else:
        found = differences(
            challenger, champion, gold, sources, len(classes), evaluation, rule.metric
        )
        value = found[0].ours
    promote, reason = _decide(found, value, rule, evaluation.confidence_level)
    return GateDecision(promote, reason, rule.metric, rule.tolerance, rule.minimum, value, found)


def _decide(
    found: tuple[Difference, ...], value: float, rule: Gate, level: float
) -> tuple[bool, str]:
    if rule.minimum is not None and value < rule.minimum:
        return False, f"{rule.metric} overall is {value:.3f}, below the minimum {rule.minimum:.3f}."
    if not found:
        least = "" if rule.minimum is None else f", the minimum {rule.minimum:.3f} is met"
        return True, f"There is no champion yet; {rule.metric} overall is {value:.3f}{least}."
    worse = [d for d in found if _verdict(d, rule.tolerance) == "worse"]
    if worse:
        places = "; ".join(f"{_place(d.source)} {_numbers(d)}" for d in worse)
        beyond = f" by more than {rule.tolerance:g}" if rule.tolerance else ""
        return False, (
            f"Worse than the champion in {rule.metric}{beyond}, "
            f"beyond the {level:.0%} interval: {places}."
        )
    return True, (
        f"Not worse than the champion in {rule.metric}: {_place(ALL)} {_numbers(found[0])}, "
        f"and on none of {len(found) - 1} source{'s' if len(found) != 2 else ''}."
    )


def _verdict(difference: Difference, tolerance: float) -> str:
    if difference.interval.high < -tolerance:
        return "worse"
    return "better" if difference.interval.low > 0 else "not worse"


def _place(source: str) -> str:
    return "overall" if source == ALL else f"on {source}"


def _numbers(difference: Difference) -> str:
    interval = difference.interval
    return (
        f"{difference.ours:.3f} against {difference.theirs:.3f} "
        f"({interval.value:+.3f}, from {interval.low:+.3f} to {interval.high:+.3f})"
    )
