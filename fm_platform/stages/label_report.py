"""What the labeling functions of a project do: counts of its days, their value, drift, rows.

What is counted of a day is an artifact of that day (`stages.label_counts`), and the worth of the
functions one of the last day (`stages.label_value`). This module adds them up and looks at the
rows that are worth it; it decides nothing and is part of no recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from fm_platform.errors import FMError, MissingArtifactError
from fm_platform.labeling.advice import Failures, advise
from fm_platform.labeling.counts import DayCounts
from fm_platform.labeling.report import TOGETHER, add_up, against, records, series
from fm_platform.labeling.slices import ALL
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.fingerprints import code_stands_still
from fm_platform.lineage.recipes import people_asked
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.common import Reporter, SilentReporter
from fm_platform.stages.label_counts import DaysCounted, first_and_last
from fm_platform.stages.label_drift import drift_of
from fm_platform.stages.label_rows import rows_to_look_at
from fm_platform.stages.label_value import recorded_value, value_of_functions
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class Wanted:
    """What a report is about.

    Attributes:
        source: Only rows of this source.
        since: Only days from this one on, `YYYY-MM-DD`.
        rows: Whether rows worth looking at are read as well.
    """

    source: str | None = None
    since: str | None = None
    rows: bool = True


def label_report(
    ws: Workspace,
    project: LoadedProject,
    wanted: Wanted,
    run: RunContext | None,
    counted: DaysCounted | None = None,
    log: Reporter | None = None,
) -> dict[str, Any]:
    """Return the report as JSON values; texts of rows are as they came.

    Args:
        ws: Where everything is.
        project: Whose functions.
        wanted: Which source and days.
        run: Who asks. None: nothing is recorded, and the value of functions is told only where
            it is recorded; for a reader.
        counted: Days that were counted before, for a reader that asks again.
        log: Told of embeddings that are made.

    Raises:
        MissingArtifactError: If no day has weak labels.
        FMError: If there is no such source, or no day since then.
    """
    spec = project.spec
    _known(wanted.source, [source.name for source in spec.sources], "source")
    ends = first_and_last(ws, spec)
    if ends is None:
        raise MissingArtifactError(
            f"no day of {spec.name} has weak labels yet", next_step=f"fm run {spec.name}"
        )
    first = max(ends[0], _day(wanted.since)) if wanted.since else ends[0]
    with code_stands_still():
        days = (counted or DaysCounted(ws, spec, run)).days(first, ends[1])
        if not days:
            raise FMError(f"{spec.name} has no weak labels since {first}", found=f"until {ends[1]}")
        model = _model(ws, spec.name, ends[1])
        values = _values(ws, project, model, run)
    totals = add_up(_readable(days, spec.labeling.label_model.window_days),
                    spec.gold.dev_rows_per_source, wanted.source)  # fmt: skip
    told = records(totals)
    pairs = against(totals) if (ALL, ALL) in totals.cells else {}
    drift = drift_of(spec.name, days, wanted.source)
    names = list(totals.functions[:-1])
    copies = _copies(model, names)
    by_name = {value["function"]: value for value in values or ()}
    failures = _failures(ws, spec, names, days[-1][0])
    report: dict[str, Any] = {
        "project": spec.name,
        "days": [day for day, _ in days],
        "source": wanted.source,
        "all_sources": [one.name for one in spec.sources],
        "functions": names,
        "classes": list(totals.classes),
        "sources": totals.sources,
        "slices": totals.slices,
        "records": told,
        "by_day": series(totals),
        "against": pairs,
        "values": values,
        "value_measure": VALUE_MEASURE,
        "label_model": _told_model(model),
        "copies": copies,
        "drift": drift,
        "advice": [
            one.to_json() for one in advise(
                told, pairs, by_name, drift, copies, failures, people_asked(spec)
            )
        ],
    }  # fmt: skip
    if wanted.rows:
        report |= rows_to_look_at(ws, project, days, wanted.source, run, log or SilentReporter())
    return report


VALUE_MEASURE = (
    "rise of the label model's log loss on the dev gold rows (nats a row, 95 % interval) when it "
    "is fitted again without the function's votes"
)


def day_tables(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, *, value: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return small tables of one day for its asset: the functions that day, and what to do.

    Only that day and the label model of its window are read.
    """
    spec = project.spec
    with code_stands_still():
        days = DaysCounted(ws, spec, run).days(day, day)
        model = _model(ws, spec.name, day)
        if value and model is not None:
            value_of_functions(ws, spec, model, run)
        values = recorded_value(ws, model) if model is not None else None
    if not days:
        return {}
    totals = add_up(days, spec.gold.dev_rows_per_source)
    told = records(totals)
    if not told:
        return {}
    by_name = {one["function"]: one for one in values or ()}
    copies = _copies(model, list(totals.functions[:-1]))
    pairs = against(totals)
    advice = advise(told, pairs, by_name, {}, copies, people=people_asked(spec))
    found = {
        "labeling functions of the day": [
            flat(record, by_name.get(record["function"]))
            for record in told
            if (record["source"], record["slice"]) == (ALL, ALL)
        ],
        "labeling: what to do": [{"function": a.function, "what": a.text} for a in advice],
    }
    apart = [r for r in told if r["function"] == TOGETHER and r["slice"] != ALL]
    if apart:
        found["labeling by slice"] = [
            {"source": r["source"], "slice": r["slice"], "rows": r["rows"],
             "coverage": r["coverage"], "conflict": r["conflict"]}
            for r in apart
        ]  # fmt: skip
    return found


def flat(record: Mapping[str, Any], value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a record and its value as one row of a table."""
    name, estimated = record["function"], record["estimated"]
    row = {
        "function": "all together" if name == TOGETHER else name,
        "rows": record["rows"],
        "coverage": record["coverage"],
        "overlap": record["overlap"],
        "conflict": record["conflict"],
        "estimated_accuracy": estimated["value"] if estimated else None,
    }
    if record["dev"] is not None:
        row |= {
            "dev_votes": record["dev"]["n"], "dev_accuracy": record["dev"]["value"],
            "low": record["dev"]["low"], "high": record["dev"]["high"],
        }  # fmt: skip
    if value is not None:
        row["log_loss_without_it"] = value["log_loss"]
    return row


def _values(
    ws: Workspace, project: LoadedProject, model: ArtifactVersion | None, run: RunContext | None
) -> list[dict[str, Any]] | None:
    if model is None:
        return None
    if run is not None:
        value_of_functions(ws, project.spec, model, run)
    return recorded_value(ws, model)


def _model(ws: Workspace, project: str, day: str) -> ArtifactVersion | None:
    """Return the label model in use of a day with its inputs; None where it cannot be read.

    One that was fitted by older code is built again by the next run.
    """
    found = ws.ledger.latest(project, "label_model", "label_model", day)
    if found is None or "fits" not in found.location["label_model"]:
        return None
    return ws.ledger.get(found.id)


def _failures(
    ws: Workspace, spec: ProjectSpec, functions: Sequence[str], last: str
) -> dict[str, Failures]:
    """Return the functions that failed on rows of the window of the last label model."""
    first = _first_day(last, spec.labeling.label_model.window_days)
    found: dict[str, Failures] = {}
    for version in ws.ledger.latest_of_days(spec.name, "votes", None, first, last):
        told, had = version.metrics["failures"], found.get(version.name)
        if version.name in functions and told["failed_rows"]:
            found[version.name] = (
                Failures(told["failed_rows"], str(version.partition), tuple(told["first"]))
                if had is None
                else replace(had, rows=had.rows + told["failed_rows"])
            )
    return found


def _copies(model: ArtifactVersion | None, names: Sequence[str]) -> list[list[str]]:
    if model is None:
        return []
    known = [[name for name in group if name in names] for group in model.metrics["copies"]]
    return [group for group in known if len(group) > 1]


def _told_model(model: ArtifactVersion | None) -> dict[str, Any] | None:
    if model is None:
        return None
    chosen = [
        record
        for record in model.metrics["evidence"]
        if record["chosen"] and record["group"] == "all"
    ]
    return {
        "method": model.location["label_model"]["method"],
        "reason": model.metrics["reason"],
        "day": model.partition,
        "dev_rows": chosen[0]["dev_rows"] if chosen else 0,
        "accuracy": chosen[0]["accuracy"] if chosen else None,
        "log_loss": chosen[0]["log_loss"] if chosen else None,
    }


def _first_day(last: str, window_days: int) -> str:
    return (date.fromisoformat(last) - timedelta(days=window_days - 1)).isoformat()


def _readable(
    days: Sequence[tuple[str, DayCounts]], window_days: int
) -> list[tuple[str, DayCounts]]:
    """Return the days, those before the window of the last label model without their gold rows."""
    first = _first_day(days[-1][0], window_days)
    return [
        (day, counts if day >= first else _without_gold(counts)) for day, counts in days
    ]  # fmt: skip


def _without_gold(counts: DayCounts) -> DayCounts:
    return DayCounts(counts.functions, counts.classes, counts.cells, counts.pairs)


def _known(name: str | None, names: Sequence[str], what: str) -> None:
    if name is not None and name not in names:
        raise FMError(f"there is no such {what}", found=name, expected=", ".join(names))


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise FMError("this is no day", found=text, expected="YYYY-MM-DD") from None
