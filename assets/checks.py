"""Blocking checks: a stage's verdicts as Dagster asset checks.

A gate is `blocking=True` *and* severity ERROR: either one alone lets downstream run. A failed
check does not undo the write, so nothing is promoted on the strength of a table being there.
A range run gets one verdict a check, with the verdict of each day in a table: Dagster records a
single evaluation for such a run. One day that alone would be stopped need not stop the others: see
`_stops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.keys import WATCH
from assets.metadata import scalar, table

if TYPE_CHECKING:
    from fm_platform.stages.common import CheckResult, StageResult

CHECKS: dict[str, dict[str, str]] = {
    "raw": {
        "contract": "At most the allowed share of rows breaks the contract.",
        "non_empty": "There is at least one row; a day that later ones followed only warns.",
    },
    "weak_labels": {
        "label_coverage": "Enough rows have at least one vote; a thin day among others only warns.",
        "function_failures": "No labeling function fails on more rows than allowed.",
    },
    "cleaned": {"nothing_lost": "Every row that came is kept, or in quarantine with its reason."},
    "watch": {"drift": "No day differs from what the champion was trained on so that it costs."},
    "adapters": {"finite_loss": "Every loss and gradient of the training was finite."},
    "merged_model": {
        "merge_is_exact": "The dense model computes what base and weighted adapters compute."
    },
    "evaluation": {
        "non_empty": "There are gold test rows.",
        "leaks": "No gold test row that counts repeats a row that was trained on.",
        "gate": "The challenger is nowhere worse than the champion and meets what is required.",
    },
}
"""Stage -> check name -> what it promises."""

Verdict = tuple["str | None", "CheckResult", "StageResult"]
"""A day, what a check says of it, and the result that it is said of."""


def check_specs(stage: str, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a stage: blocking ones, but for what only warns."""
    return [
        dg.AssetCheckSpec(name, asset=key, description=promise, blocking=stage != WATCH)
        for name, promise in CHECKS.get(stage, {}).items()
    ]


def check_results(
    stage: str, key: dg.AssetKey, results: Mapping[str | None, StageResult]
) -> list[dg.AssetCheckResult]:
    """Return one verdict for each declared check over all artifacts of a step.

    A stage that gives no verdict on a declared check has not passed it.
    """
    verdicts: dict[str, list[Verdict]] = {name: [] for name in CHECKS.get(stage, {})}
    for day, result in results.items():
        for check in result.checks:
            verdicts.setdefault(check.name, []).append((day, check, result))
    undeclared = sorted(set(verdicts) - set(CHECKS.get(stage, {})))
    if undeclared:
        raise dg.DagsterInvariantViolationError(
            f"stage {stage} gave a verdict on {', '.join(undeclared)}, which assets.checks.CHECKS"
            " does not declare"
        )
    return [
        _summary(name, key, given, len(results) - len(given)) for name, given in verdicts.items()
    ]


def _summary(
    name: str, key: dg.AssetKey, given: Sequence[Verdict], silent: int
) -> dg.AssetCheckResult:
    failed = [(day, check) for day, check, _ in given if not check.passed]
    blocking = silent > 0 or not failed or _stops(name, given)
    if silent:
        description = f"no verdict on {silent} artifact(s); a check without a verdict fails"
    elif len(given) == 1:
        description = given[0][1].description
    elif failed:
        shown = "; ".join(f"{day}: {check.description}" for day, check in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        description = f"failed on {len(failed)} of {len(given)} days. {shown}{more}"
    else:
        description = f"passed on all {len(given)} days"
    metadata: dict[str, dg.MetadataValue] = {
        "verdicts": table(
            [
                {"day": day or "-", "passed": check.passed, "why": check.description}
                for day, check in [*failed, *((day, c) for day, c, _ in given if c.passed)]
            ]
            or [{"day": "-", "passed": False, "why": description}]
        )
    }
    if len(given) == 1:
        metadata |= {
            title: table(value) if _is_table(value) else scalar(value)
            for title, value in sorted(given[0][1].metadata.items())
        }
    return dg.AssetCheckResult(
        passed=not failed and not silent,
        asset_key=key,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata=metadata,
    )


def _stops(name: str, given: Sequence[Verdict]) -> bool:
    """Whether failed verdicts stop what lies below.

    A day without rows does while it is the last: they may still come. Once a later day of the
    range has some it is over, and only warns. A day on which few rows have a vote only warns while
    of all rows of the range enough have one.
    """
    stopping = [day or "" for day, check, _ in given if check.blocking and not check.passed]
    if name == "non_empty":
        last = max((day or "" for day, check, _ in given if check.passed), default="")
        return any(day >= last for day in stopping)
    return bool(stopping) and not (name == "label_coverage" and _enough_votes(given))


def _enough_votes(given: Sequence[Verdict]) -> bool:
    """Whether of the rows of all days together the declared share has a vote."""
    voted = needed = 0.0
    for _, check, result in given:
        count = result.version.rows or 0
        voted += count * float(check.metadata["coverage"])
        needed += count * float(result.version.config["minimum_coverage"])
    return voted >= needed


def _is_table(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(row, Mapping) for row in value)
    )
