"""What a day of weak labels shows, and the checks that may stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult, summary


def day_summary(
    spec: ProjectSpec,
    data: pa.Table,
    labeled: npt.NDArray[np.bool_],
    versions: Sequence[ArtifactVersion],
    model_version: ArtifactVersion,
) -> dict[str, Any]:
    """Return numbers, tables and checks of a day of weak labels.

    Args:
        spec: The project.
        data: The rows as they are written.
        labeled: bool[n], whether any function votes for one class.
        versions: The votes, with their failures.
        model_version: The label model.
    """
    coverage = float(labeled.mean()) if len(labeled) else 0.0
    minimum = spec.labeling.minimum_coverage
    checks = (
        CheckResult(
            "label_coverage",
            len(labeled) == 0 or coverage >= minimum,
            f"{coverage:.1%} of {len(labeled)} rows have a vote; at least {minimum:.0%} must.",
            {"coverage": coverage},
        ),
        failures_check(spec, versions, len(labeled)),
    )
    return summary(
        {
            "label_coverage": coverage,
            "mean_confidence": float(pc.mean(data["confidence"]).as_py() or 0.0),
            "labeling_functions": len(versions),
        },
        {
            "weak labels by class": tables.count_by(data, "label"),
            "rows by source": tables.count_by(data, "source"),
            "labeling functions": model_version.metrics["functions"],
            "gold rows read": model_version.metrics.get("gold", []),
            "label model chosen on dev": model_version.metrics["evidence"],
            "calibration of the label model": [model_version.metrics["calibration"]],
        },
        checks,
    )


def failures_check(spec: ProjectSpec, votes: Sequence[ArtifactVersion], rows: int) -> CheckResult:
    """Return the verdict on the functions of a day: whether one fails on too many of its rows.

    It goes by the votes as they are now: a function that is mended so that it abstains where it
    failed gives the same votes, of which the same weak labels are made.
    """
    failures = {
        version.name: version.metrics["failures"]
        for version in votes
        if version.metrics["failures"]["failed_rows"]
    }
    limit = spec.labeling.max_failed_share * max(rows, 1)
    failing = sorted(n for n, found in failures.items() if found["failed_rows"] > limit)
    return CheckResult(
        "function_failures",
        not failing,
        f"{', '.join(failing)} failed on more than "
        f"{spec.labeling.max_failed_share:.0%} of the rows; see `failures`."
        if failing
        else f"{len(votes)} functions ran; "
        f"{sum(f['failed_rows'] for f in failures.values())} rows failed and abstain.",
        {"failures": failures},
    )
