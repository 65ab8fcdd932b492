"""Who watches the monitors: one that saw nothing, fell silent, or can never fire is an alert."""

from __future__ import annotations

from fm_platform.hashing import fingerprint
from fm_platform.lineage.database import now
from fm_platform.monitoring.life import MONITOR
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact, Repair
from fm_platform.stages.alerts import Desk

SILENT_INTERVALS = 2
LEAST_INTERVAL_S = 30
"""A daemon goes round its sensors about so often: shorter intervals than that are not kept."""
_NOTHING = Impact(Estimate(0.0, 0.0, 0.0, "what is not watched costs nothing that is known"))


def failing_monitors(desk: Desk, last_ticks: dict[str, float | None], at_s: float) -> list[Alert]:
    """Return an alert for each monitor that does not do its work.

    Args:
        desk: The alerts of the project.
        last_ticks: Sensor -> when it last ticked, seconds since 1970; None: never.
        at_s: Now, seconds since 1970.
    """
    day = now().date().isoformat()
    found = [
        _alert(desk, day, "policy", words, "Change the `alerts` part of the project file")
        for words in desk.policy.never_fires()
    ]
    limit_s = SILENT_INTERVALS * max(desk.policy.check_every_s, LEAST_INTERVAL_S)
    for name, last_s in sorted(last_ticks.items()):
        if last_s is None or at_s - last_s > limit_s:
            told = "never" if last_s is None else f"not for {(at_s - last_s) / 60:.0f} minutes"
            words = f"sensor {name} evaluated {told}; it should every {desk.policy.check_every_s} s"
            found.append(_alert(desk, day, name, words, "Start the sensor, and its daemon"))
    return found


def blind_checks(desk: Desk) -> list[Alert]:
    """Return an alert for each newest day whose findings rest on no row or no test."""
    found = []
    for version in desk.ws.ledger.all_latest(desk.name, "findings")[-1:]:
        tests = version.metrics.get("numbers", {}).get("tests")
        if version.rows == 0 or tests == 0:
            words = (
                f"the check of {version.partition} saw {'no row' if tests else 'nothing to test'}"
            )
            day = version.partition or ""
            found.append(_alert(desk, day, "findings", words, "See why nothing came"))
    return found


def _alert(desk: Desk, day: str, name: str, words: str, repair: str) -> Alert:
    cause = Cause(MONITOR, name, fingerprint(words.partition(";")[0])[:8], (name,))
    if name not in ("policy", "findings"):  # however long it has been silent, it is one alert
        cause = Cause(MONITOR, name, "silent", (name,))
    return Alert(
        desk.name, day, day, cause, words, (words,), (), _NOTHING, "medium",
        (Repair("fix_upstream", repair, "A monitor that does not watch is no monitor."),),
    )  # fmt: skip
