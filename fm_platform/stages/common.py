"""What every stage takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fm_platform.lineage.build import BuildResult
from fm_platform.lineage.ledger import ArtifactVersion, Ledger

Number = int | float


class Reporter(Protocol):
    """Where a stage tells what it is doing. Messages never hold row text."""

    def info(self, message: str) -> None:
        """Say one finished sentence."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps of `task` are done; `note` holds e.g. the loss."""


class SilentReporter:
    """A reporter that says nothing."""

    def info(self, message: str) -> None:
        """Drop the message."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Drop the progress."""


@dataclass(frozen=True)
class CheckResult:
    """A verdict on one artifact that may stop what lies downstream.

    Attributes:
        name: `contract`, `non_empty`, `label_coverage`, `function_failures` or `gate`.
        passed: Whether downstream may go on.
        description: Why, with numbers, in one or two sentences.
        metadata: The numbers.
        blocking: Whether a failure stops downstream (severity ERROR) or only warns.
    """

    name: str
    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocking: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "name": self.name,
            "passed": self.passed,
            "description": self.description,
            "metadata": dict(self.metadata),
            "blocking": self.blocking,
        }


@dataclass(frozen=True)
class StageResult:
    """What a stage made or reused.

    Attributes:
        version: The artifact version now in use.
        reused: True where nothing was computed.
        reason: Why it was computed or reused, in words.
        metrics: Numbers with stable names, for plots over time.
        tables: Small tables (at most a few dozen rows) by title.
        checks: Verdicts, also of a reused version.
        plot_png: A picture, or None.
        links: Title -> http(s) address.
    """

    version: ArtifactVersion
    reused: bool
    reason: str
    metrics: Mapping[str, Number | str] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    plot_png: bytes | None = None
    links: Mapping[str, str] = field(default_factory=dict)


def summary(
    numbers: Mapping[str, Number | str],
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    checks: Sequence[CheckResult] = (),
    links: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a stage result shows, as the `metrics` of the ledger record.

    A reused version then shows exactly what the computed one did.
    """
    return {
        "numbers": dict(numbers),
        "tables": {title: [dict(row) for row in rows] for title, rows in (tables or {}).items()},
        "checks": [check.to_json() for check in checks],
        "links": dict(links or {}),
    }


def stage_result(built: BuildResult, plot_png: bytes | None = None) -> StageResult:
    """Return the stage result that the ledger record of `built` describes."""
    metrics = built.version.metrics
    return StageResult(
        version=built.version,
        reused=built.reused,
        reason=built.reason,
        metrics=metrics.get("numbers", {}),
        tables=metrics.get("tables", {}),
        checks=tuple(CheckResult(**check) for check in metrics.get("checks", [])),
        plot_png=plot_png,
        links=metrics.get("links", {}),
    )


def noted(ledger: Ledger, version: ArtifactVersion, mlflow_run_id: str | None) -> None:
    """Note in the ledger which MLflow run shows a version, where there is one."""
    if mlflow_run_id is not None and version.mlflow_run_id is None:
        ledger.note_mlflow_run(version.id, mlflow_run_id)
