"""What people see of a watched day: numbers, alerts in words, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fm_platform.lineage import ArtifactVersion
from fm_platform.monitoring import Alert, Finding, Profile, Reference
from fm_platform.monitoring.life import Rulings
from fm_platform.monitoring.words import sentence
from fm_platform.stages.common import CheckResult, summary


def facts(*stages: ArtifactVersion) -> dict[str, object]:
    """Return what the stages of the day say of themselves: numbers, and refused rows by rule."""
    return {
        version.kind: {
            "numbers": dict(version.metrics.get("numbers", {})),
            "by_rule": [
                dict(row)
                for title, rows in sorted(version.metrics.get("tables", {}).items())
                if "rule" in title
                for row in rows
            ],
        }
        for version in stages
    }


def told_profile(profile: Profile) -> dict[str, Any]:
    """Return what people see of a day where there is no champion to compare it for."""
    by_source = [{"source": name, "rows": profile.rows[name]} for name in profile.sources]
    check = CheckResult(
        "drift", True, "There is no champion yet: nothing to compare with.", blocking=False
    )
    return summary({"rows": profile.rows["all"]}, {"rows by source": by_source}, (check,))


def told_findings(
    day: str, found: Sequence[Finding], alerts: Sequence[Alert], reference: Reference, tests: int,
    said: Rulings,
) -> dict[str, Any]:  # fmt: skip
    """Return what people see of a day: alerts first, in words.

    A cause that people accepted, or lowered far enough, is listed and no longer warned of.
    """
    sent = [a for a in alerts if a.cause.key not in said.accepted and said.severity(a) != "record"]
    listed = [
        {
            "id": a.id, "severity": said.severity(a), "what": a.title, "since": a.since,
            "points": round(a.impact.worst, 2), "impact": a.words[-1],
            "repair": a.repairs[0].title,
        }
        for a in alerts
    ]  # fmt: skip
    spec_words = f"{tests} metrics compared with what {reference.title} was trained on"
    if tests == 0:
        words = f"nothing of {day} could be compared: a check that saw nothing has failed."
    elif sent:
        words = " ".join(f"{alert.title}: {alert.words[-1]}" for alert in sent[:3])
    elif alerts:
        words = f"{spec_words}; {len(alerts)} moved that the model does not care about."
    else:
        words = f"{spec_words}: all within their bands."
    check = CheckResult(
        "drift", not sent and tests > 0, words, {"alerts": listed, "tests": tests}, blocking=False
    )
    shown: dict[str, list[dict[str, Any]]] = {
        "alerts": listed,
        "findings": [{"finding": sentence(f)} for f in found[:20]],
    }
    numbers = {
        "tests": tests, "findings": len(found), "alerts": len(alerts), "alerts_sent": len(sent),
        "expected_loss_points": round(max((a.impact.worst for a in sent), default=0.0), 3),
    }  # fmt: skip
    return summary(numbers, {k: v for k, v in shown.items() if v}, (check,))
