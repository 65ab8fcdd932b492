"""The gate: a challenger takes the champion's place only if it is not worse anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.evaluation.metrics import (
    ALL,
    Difference,
    SystemPredictions,
    class_differences,
    differences,
    measure,
)
from fm_platform.spec.models import Evaluation, Gate

TAIL_DRAWS = 20
"""Resamples that lie beyond each end of an interval at least, so that the end means something."""


@dataclass(frozen=True)
class Requirement:
    """Something that a model must show whatever the champion does: a test or a constraint."""

    name: str
    ok: bool
    told: str

    def to_json(self) -> dict[str, Any]:
        """Return the requirement and whether it is met."""
        return {"name": self.name, "ok": self.ok, "told": self.told}


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
        differences: Challenger - champion, `all` first, then place by place; empty for a first
            model.
        requirements: Declared tests and constraints, met or not.
    """

    promote: bool
    reason: str
    metric: str
    tolerance: float
    minimum: float | None
    value: float
    differences: tuple[Difference, ...]
    requirements: tuple[Requirement, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the decision and its numbers, for the ledger."""
        required = [requirement.to_json() for requirement in self.requirements]
        return {
            "promote": self.promote,
            "reason": self.reason,
            "metric": self.metric,
            "tolerance": self.tolerance,
            "minimum": self.minimum,
            "value": self.value,
            "differences": [difference.to_json() for difference in self.differences],
            **({"requirements": required} if required else {}),
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
    requirements: Sequence[Requirement] = (),
) -> GateDecision:
    """Decide whether `challenger` becomes champion.

    It is refused where a requirement is not met, where its value overall is below the minimum, or
    where the paired bootstrap interval of challenger - champion lies wholly below -tolerance,
    overall or at any declared place (sources, classes). Each interval has the confidence level
    of `evaluation`: the more places, the more often an equal challenger is refused by chance
    (about 2.5 % for each at level 0.95), unless the rule says that they hold together.

    Args:
        challenger: Predictions on the rows of `gold`.
        champion: Predictions on the same rows, or None where there is no champion yet.
        gold: int[n] class indices.
        sources: n source names.
        classes: Class names.
        evaluation: Resamples, level, seed.
        rule: Metric, tolerance, minimum, places.
        requirements: What was tested of the challenger alone.

    Raises:
        EvaluationError: If there are no rows or predictions do not match them.
    """
    if champion is None:
        overall = measure({"challenger": challenger}, gold, sources, len(classes), evaluation)
        interval = overall["challenger"][ALL].values[rule.metric]
        value = interval.value if interval is not None else 0.0
        found: tuple[Difference, ...] = ()
    else:
        found = _places(challenger, champion, gold, sources, classes, evaluation, rule)
        value = found[0].ours
    promote, reason = _decide(found, value, rule, evaluation.confidence_level)
    return require(
        GateDecision(promote, reason, rule.metric, rule.tolerance, rule.minimum, value, found),
        requirements,
    )


def require(decision: GateDecision, requirements: Sequence[Requirement]) -> GateDecision:
    """Return a decision that also asks for `requirements`: one that is not met refuses."""
    failed = [requirement for requirement in requirements if not requirement.ok]
    promote, reason = decision.promote, decision.reason
    if failed:
        told = "; ".join(requirement.told for requirement in failed)
        promote, reason = False, f"{told[0].upper()}{told[1:]}." + ("" if promote else f" {reason}")
    asked = (*decision.requirements, *requirements)
    return replace(decision, promote=promote, reason=reason, requirements=asked)


def _places(
    challenger: SystemPredictions,
    champion: SystemPredictions,
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
    rule: Gate,
) -> tuple[Difference, ...]:
    """Return challenger - champion overall and at each declared place.

    Together m intervals of level 1 - (1 - level) / m hold with the declared level, whatever
    their dependence (Bonferroni). Whether any place is worse is then answered as by the
    step-down procedure of Holm (1979), which first looks at the same bound.
    """
    k, by_class = len(classes), "class" in rule.places
    if rule.together:
        m = 1 + ("source" in rule.places) * len(set(sources)) + by_class * k
        tail = (1.0 - evaluation.confidence_level) / m
        draws = max(evaluation.bootstrap_samples, math.ceil(2 * TAIL_DRAWS / tail))
        evaluation = evaluation.model_copy(
            update={"confidence_level": 1.0 - tail, "bootstrap_samples": draws}
        )
    found = differences(challenger, champion, gold, sources, k, evaluation, rule.metric)
    if "source" not in rule.places:
        found = found[:1]
    if by_class:
        found += class_differences(challenger, champion, gold, sources, classes, evaluation)
    return found


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
            f"beyond the {level:.0%} interval{' of all places together' if rule.together else ''}: "
            f"{places}."
        )
    what = "source" if rule.places == ("source",) else "place"
    return True, (
        f"Not worse than the champion in {rule.metric}: {_place(ALL)} {_numbers(found[0])}, "
        f"and on none of {len(found) - 1} {what}{'s' if len(found) != 2 else ''}."
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
