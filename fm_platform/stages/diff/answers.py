"""What two models answer on gold rows: metrics per slice, and the rows whose answer flipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from fm_platform.evaluation.metrics import ALL, METRICS
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages import tables
from fm_platform.stages.diff.records import Answers, Flip, FlipCounts, MetricChange
from fm_platform.stages.trace_row import keeps_predictions
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

_PAIRED = ("f1_weighted", "f1_macro", "accuracy")
_ROLES = {"merged_model": "merged_model", "champion": "champion"}


@dataclass(frozen=True)
class Judged:
    """One system of one evaluation: what a model was called there."""

    evaluation: ArtifactVersion
    system: str


def judged(evaluations: Iterable[ArtifactVersion], model: ArtifactVersion) -> list[Judged]:
    """Return where a model was evaluated, newest first.

    Args:
        evaluations: Versions with their inputs.
        model: A merged model, an adapter or a start; one with equal content is the same model.
    """
    found = []
    evaluations = [version for version in evaluations if keeps_predictions(version)]
    for version in sorted(evaluations, key=lambda v: v.id, reverse=True):
        for item in version.inputs:
            if item.content_hash != model.content_hash or item.part is not None:
                continue
            if item.role in _ROLES and model.kind == "merged_model":
                found.append(Judged(version, _ROLES[item.role]))
            elif item.role == model.kind == "adapter":
                found.append(Judged(version, f"expert:{item.name}"))
            elif item.role == model.kind == "start" and item.name in _systems(version):
                found.append(Judged(version, item.name))
    return found


def _systems(evaluation: ArtifactVersion) -> set[str]:
    return {row["system"] for row in evaluation.metrics["evaluation"]["rows"]}


def best_pair(before: Sequence[Judged], after: Sequence[Judged]) -> tuple[Judged, Judged] | None:
    """Return the pair to compare: of one evaluation if there is one, else the newest of each."""
    for two in after:
        for one in before:
            if one.evaluation.id == two.evaluation.id:
                return one, two
    return (before[0], after[0]) if before and after else None


def answers(
    ws: Workspace, before: Judged, after: Judged, *, examples: int = 5, text: bool = True
) -> Answers:
    """Return metrics per slice and flipped rows of two evaluated systems.

    Raises:
        CorruptArtifactError: If a stored byte differs.
        MissingArtifactError: If the predictions are gone.
    """
    left, right = _predictions(ws, before), _predictions(ws, after)
    keys = ["row_id", "day"]
    both = left.join(right, on=keys, how="inner", suffix=":after").sort(keys)
    differing = both.filter(both["label"].ne_missing(both["label:after"]))
    shown = _examples(ws, (after, before), differing, examples, text)
    return Answers(
        before.system,
        after.system,
        before.evaluation.content_hash,
        after.evaluation.content_hash,
        both.height,
        _metrics(before, after, both),
        _counts(both),
        shown,
    )


def _predictions(ws: Workspace, judged: Judged) -> pl.DataFrame:
    import polars as pl

    table = tables.read(ws, judged.evaluation, "predictions")
    table = table.filter(pc.equal(table["system"], judged.system)).drop_columns(["part", "system"])
    return pl.DataFrame(table)


# --- metrics ------------------------------------------------------------------------------------


def _metrics(before: Judged, after: Judged, both: pl.DataFrame) -> tuple[MetricChange, ...]:
    told = [_table(judged) for judged in (before, after)]
    paired = _paired(before, after, both)
    slices = dict.fromkeys(source for rows in told for source in rows)
    found = []
    for source in slices:
        one, two = (rows.get(source, {}) for rows in told)
        for metric in METRICS:
            if one.get(metric) is None and two.get(metric) is None:
                continue
            difference, rows = paired.get((source, metric), (None, None))
            found.append(
                MetricChange(
                    after.system, source, metric, one.get(metric), two.get(metric), difference, rows
                )
            )
    return tuple(found)


def _table(judged: Judged) -> dict[str, Mapping[str, Any]]:
    """Return slice -> row of the evaluation table, `all` first."""
    rows = judged.evaluation.metrics["evaluation"]["rows"]
    return {row["source"]: row for row in rows if row["system"] == judged.system}


def _paired(
    before: Judged, after: Judged, both: pl.DataFrame
) -> dict[tuple[str, str], tuple[dict[str, float], int]]:
    """Return (slice, metric) -> difference with its interval, and rows, where rows can be paired.

    They cannot where the taxonomy changed, or a person changed the gold label of a common row.
    """
    from fm_platform.evaluation.metrics import SystemPredictions, differences
    from fm_platform.spec.models import Evaluation

    classes = list(after.evaluation.config["classes"])
    same = both["gold"].eq_missing(both["gold:after"])
    if list(before.evaluation.config["classes"]) != classes or not same.all() or not both.height:
        return {}
    index: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    labels = {
        name: np.array([index.get(label, -1) for label in both[name].to_list()], np.int64)
        for name in ("gold", "label", "label:after")
    }
    settings = Evaluation.model_validate({**after.evaluation.config["evaluation"], "baselines": {}})
    found = {}
    for metric in _PAIRED:
        for item in differences(
            SystemPredictions(labels["label:after"]),
            SystemPredictions(labels["label"]),
            labels["gold"],
            both["source"].to_list(),
            len(classes),
            settings,
            metric,
        ):
            found[item.source, metric] = (item.interval.to_json(), item.n)
    return found


# --- flips --------------------------------------------------------------------------------------


def _counts(both: pl.DataFrame) -> tuple[FlipCounts, ...]:
    import polars as pl

    right = [pl.col("label").eq_missing(pl.col("gold:after"))]
    right.append(pl.col("label:after").eq_missing(pl.col("gold:after")))
    flipped = pl.col("label").ne_missing(pl.col("label:after"))
    told = [
        pl.len().alias("rows"),
        (flipped & ~right[0] & right[1]).sum().alias("fixed"),
        (flipped & right[0] & ~right[1]).sum().alias("broken"),
        (flipped & ~right[0] & ~right[1]).sum().alias("other"),
    ]
    if not both.height:
        return ()
    overall = both.select(told).row(0)
    by_source = both.group_by("source").agg(told).sort("source").rows()
    return (FlipCounts(ALL, *overall), *(FlipCounts(*row) for row in by_source))


def _examples(
    ws: Workspace,
    judged: tuple[Judged, Judged],
    differing: pl.DataFrame,
    most: int,
    text: bool,
) -> tuple[Flip, ...]:
    """Return some flipped rows: those that broke first, the surest first."""
    import polars as pl

    if not differing.height or most <= 0:
        return ()
    ranked = (
        differing.with_columns(
            pl.col("probabilities").list.max().alias("sure"),
            pl.col("probabilities:after").list.max().alias("sure:after"),
            pl.when(pl.col("label").eq_missing(pl.col("gold:after")))
            .then(0)
            .when(pl.col("label:after").eq_missing(pl.col("gold:after")))
            .then(1)
            .otherwise(2)
            .alias("order"),
        )
        .sort("order", "sure:after", "row_id", descending=[False, True, False], nulls_last=True)
        .group_by("order", maintain_order=True)
        .head(most)
    )
    texts = _texts(ws, judged, ranked) if text else {}
    return tuple(
        Flip(
            row["row_id"], row["day"], row["source"], row["gold:after"], row["label"],
            row["label:after"], row["sure"], row["sure:after"], texts.get(row["row_id"]),
        )
        for row in ranked.iter_rows(named=True)
    )  # fmt: skip


def _texts(ws: Workspace, judged: tuple[Judged, Judged], rows: pl.DataFrame) -> dict[str, str]:
    """Return row id -> text, read from the days that either evaluation was made from."""
    wanted: dict[str, set[str]] = {}
    for row_id, day in rows.select("row_id", "day").iter_rows():
        wanted.setdefault(day, set()).add(row_id)
    versions = {}
    for item in (i for j in reversed(judged) for i in j.evaluation.inputs):
        if item.role == "weak_labels" and item.version_id and item.partition in wanted:
            versions[item.partition] = item.version_id
    found: dict[str, str] = {}
    for version in ws.ledger.get_many(sorted(versions.values()), with_inputs=False):
        table = tables.read(ws, version, "weak_labels", ["row_id", "text"])
        ids = wanted[str(version.partition)]
        for row in table.to_pylist():
            if row["row_id"] in ids:
                found[row["row_id"]] = row["text"]
    return found
