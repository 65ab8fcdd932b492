"""A day of weak labels as its asset builds it: labeled, then counted and shown."""

from __future__ import annotations

from dataclasses import replace

from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.common import Reporter, StageResult
from fm_platform.stages.label_report import day_tables
from fm_platform.stages.label_summary import failures_check
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace


def build_labeled_day(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Label one day and count what each function did; its tables are shown with the others.

    The worth of each function, for which the label model is fitted without it, is found on the
    last day that has rows only: of a range of days one pays for it.

    Raises:
        FMError: As `build_weak_labels`.
    """
    labeled = build_weak_labels(ws, project, day, run, log)
    votes = [
        version
        for version in ws.ledger.latest_of_days(project.spec.name, "votes", None, day, day)
        if version.name in labeled.version.metrics["functions"]
    ]
    failures = failures_check(project.spec, votes, labeled.version.rows or 0)
    checks = tuple(failures if c.name == failures.name else c for c in labeled.checks)
    last = ws.ledger.last_partition(project.spec.name, "raw", "raw")
    shown = day_tables(ws, project, day, run, value=day == last)
    return replace(labeled, tables={**labeled.tables, **shown}, checks=checks)
