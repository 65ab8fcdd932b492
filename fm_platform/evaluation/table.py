"""The evaluation table: every system on every source, as JSON, text and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.display import as_markdown, plain
from fm_platform.errors import EvaluationError
from fm_platform.evaluation.metrics import ALL, METRICS, Interval, SystemPredictions, measure
from fm_platform.hashing import fingerprint
from fm_platform.spec.models import Evaluation

MERGED_MODEL = "merged_model"
CHAMPION = "champion"
EXPERT_PREFIX = "expert:"
LABEL_MODEL = "label_model"
MAJORITY_VOTE = "majority_vote"
SHARED_START = "shared_start"
HUMAN = "human"

_TITLES = {
    "f1_weighted": "support-weighted F1",
    "f1_macro": "macro F1",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@dataclass(frozen=True)
class EvaluationRow:
    """One system on one source (or `all`).

    `log_loss` and `ece` are None for a system that gives no probabilities.
    """

    system: str
    source: str
    n: int
    f1_weighted: Interval
    f1_macro: Interval
    accuracy: Interval
    log_loss: Interval | None
    ece: Interval | None

    def metric(self, name: str) -> Interval | None:
        """Return the metric called `name`, one of METRICS."""
        if name not in METRICS:
            raise EvaluationError(
                "there is no such metric", expected=", ".join(METRICS), found=name
            )
        value: Interval | None = getattr(self, name)
        return value

    def to_json(self) -> dict[str, Any]:
        """Return one element of `rows` of `fm results --json`."""
        metrics = {name: self.metric(name) for name in METRICS}
        return {
            "system": self.system,
            "source": self.source,
            "n": self.n,
            **{name: None if m is None else m.to_json() for name, m in metrics.items()},
        }


@dataclass(frozen=True)
class EvaluationTable:
    """Every system on every source, `all` first. Abstentions count as wrong."""

    rows: tuple[EvaluationRow, ...]
    confidence_level: float = 0.95

    @property
    def systems(self) -> list[str]:
        """Systems in the order of the table."""
        return list(dict.fromkeys(row.system for row in self.rows))

    @property
    def sources(self) -> list[str]:
        """Sources in the order of the table, `all` first."""
        return list(dict.fromkeys(row.source for row in self.rows))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the numbers."""
        return fingerprint([row.to_json() for row in self.rows])

    def get(self, system: str, source: str = ALL) -> EvaluationRow | None:
        """Return one row, or None where the system was not measured on that source."""
        return next((r for r in self.rows if (r.system, r.source) == (system, source)), None)

    def metrics(self, system: str) -> dict[str, float]:
        """Return `<source>/<metric>` -> value of one system, for plots over time and MLflow."""
        found: dict[str, float] = {}
        for row in self.rows:
            if row.system == system:
                for name in METRICS:
                    metric = row.metric(name)
                    if metric is not None:
                        found[f"{row.source}/{name}"] = metric.value
        return found

    def records(self, metric: str = "f1_weighted") -> list[dict[str, Any]]:
        """Return one record per system with the metric on each source, for a small table."""
        records = []
        for system in self.systems:
            record: dict[str, Any] = {"system": system}
            for source in self.sources:
                row = self.get(system, source)
                value = row.metric(metric) if row else None
                record[source] = None if value is None else value.value
            records.append(record)
        return records

    def to_json(self, project: str, evaluation: str) -> dict[str, Any]:
        """Return what `fm results --json` prints.

        Args:
            project: Project name.
            evaluation: Content hash of the evaluation artifact.
        """
        return {
            "project": project,
            "evaluation": evaluation,
            "rows": [row.to_json() for row in self.rows],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], confidence_level: float = 0.95) -> EvaluationTable:
        """Return the table that `to_json` wrote."""

        def interval(row: Mapping[str, Any], name: str) -> Interval:
            return Interval(**row[name])

        rows = [
            EvaluationRow(
                row["system"],
                row["source"],
                row["n"],
                interval(row, "f1_weighted"),
                interval(row, "f1_macro"),
                interval(row, "accuracy"),
                interval(row, "log_loss") if row["log_loss"] else None,
                interval(row, "ece") if row["ece"] else None,
            )
            for row in value["rows"]
        ]
        return cls(tuple(rows), confidence_level)

    def to_text(self, metric: str = "f1_weighted", width: int | None = None) -> str:
        """Return the table for a terminal: one metric per source, then all metrics overall.

        Args:
            metric: Shown per source.
            width: Columns of the terminal; where the intervals do not fit, half their width is
                shown as ±.
        """
        first, second = self._cells(metric)
        if width is not None and max(map(len, _aligned(first).splitlines())) > width:
            first, second = self._cells(metric, narrow=True)
        return "\n\n".join(
            [
                f"{self._title(metric)}\n{_aligned(first)}",
                f"Overall\n{_aligned(second)}",
                "An abstention counts as a wrong answer.",
            ]
        )

    def to_markdown(self, metric: str = "f1_weighted") -> str:
        """Return the same two tables as Markdown."""
        first, second = self._cells(metric)
        return "\n\n".join(
            [
                f"{self._title(metric)}:",
                _markdown(first),
                "Overall:",
                _markdown(second),
                "An abstention counts as a wrong answer.",
            ]
        )

    def _title(self, metric: str) -> str:
        title = _TITLES[metric]
        return f"{title[0].upper()}{title[1:]} with {self.confidence_level:.0%} intervals"

    def _cells(self, metric: str, narrow: bool = False) -> tuple[list[list[str]], list[list[str]]]:
        sources, systems = self.sources, self.systems
        counts = {s: max(r.n for r in self.rows if r.source == s) for s in sources}
        first = [["system", *(f"{source} ({counts[source]:,})" for source in sources)]]
        second = [["system", "rows", *(_TITLES[name] for name in METRICS)]]
        for system in systems:
            found = [self.get(system, source) for source in sources]
            first.append(
                [system, *(_cell(row.metric(metric) if row else None, narrow) for row in found)]
            )
            row = self.get(system)
            if row is not None:
                cells = [_number(row.metric(name)) for name in METRICS]
                second.append([system, f"{row.n:,}", *cells])
        return first, second


def evaluate(
    systems: Mapping[str, SystemPredictions],
    gold: npt.NDArray[np.integer],
    sources: Sequence[str],
    classes: Sequence[str],
    evaluation: Evaluation,
) -> EvaluationTable:
    """Measure every system on the same gold rows and the same resamples.

    Args:
        systems: `merged_model`, `champion`, `expert:<name>`, `shared_start`, `label_model`,
            `majority_vote`, baselines by name, `human`; each with answers for all n rows.
        gold: int[n] class indices.
        sources: n source names.
        classes: Class names, by index.
        evaluation: Resamples, confidence level, bins, seed.

    Raises:
        EvaluationError: If there are no rows, no systems, or predictions do not fit.
    """
    if not systems:
        raise EvaluationError("there is no system to evaluate")
    measured = measure(systems, np.asarray(gold), sources, len(classes), evaluation)
    rows = []
    for system in sorted(measured, key=_rank):
        for source, found in measured[system].items():
            f1_weighted, f1_macro, accuracy = (
                found.values[name] for name in ("f1_weighted", "f1_macro", "accuracy")
            )
            if f1_weighted is None or f1_macro is None or accuracy is None:
                raise EvaluationError(f"{system} has no labels on {source}")
            rows.append(
                EvaluationRow(
                    system,
                    source,
                    found.n,
                    f1_weighted,
                    f1_macro,
                    accuracy,
                    found.values["log_loss"],
                    found.values["ece"],
                )
            )
    return EvaluationTable(tuple(rows), evaluation.confidence_level)


def _rank(system: str) -> tuple[int, str]:
    if system.startswith(EXPERT_PREFIX):
        return 2, system
    fixed = {MERGED_MODEL: 0, CHAMPION: 1, SHARED_START: 3, LABEL_MODEL: 4, MAJORITY_VOTE: 5,
             HUMAN: 7}  # fmt: skip
    return fixed.get(system, 6), system


def _number(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.3f}"


def _cell(value: Interval | None, narrow: bool) -> str:
    if value is None:
        return "-"
    if narrow:
        return f"{value.value:.3f}±{(value.high - value.low) / 2:.3f}"
    return f"{value.value:.3f} ({value.low:.3f}-{value.high:.3f})"


def _aligned(cells: list[list[str]]) -> str:
    shown = [[plain(cell, 40) for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = []
    for row in shown:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _markdown(cells: list[list[str]]) -> str:
    rows = [f"| {' | '.join(as_markdown(cell, 40) for cell in row)} |" for row in cells]
    rows.insert(1, f"| --- |{' ---: |' * (len(cells[0]) - 1)}")
    return "\n".join(rows)
