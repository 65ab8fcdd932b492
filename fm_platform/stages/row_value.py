"""What the training rows, sources and labeling functions are worth, told by dev gold.

Values are those of a nearest-neighbour classifier in the representation of the current model. They
are found on one half of the dev gold rows; whether a smaller training set keeps the score is looked
at on the other half, with a linear head: what a selection was chosen by may not be its proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.shapley import knn_shapley, unit
from fm_platform.errors import FMError, MissingArtifactError
from fm_platform.labeling.diagnostics import wilson
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.models import training_days
from fm_platform.stages.seen import Seen
from fm_platform.stages.window import dev_gold
from fm_platform.workspace import Workspace

NEIGHBOURS = (10, 50)  # of few and of many training rows: one in twenty, within these
MAX_ROWS = 10_000
LEAST_DEV = 20
REMOVED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_LOWEST = 20
Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """The newest training rows with their vectors, and what is known of them."""

    rows: pa.Table
    vectors: Matrix
    votes: Mapping[str, tuple[str, ...]]


def row_values(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter, max_rows: int = MAX_ROWS
) -> dict[str, Any]:
    """Return the values as JSON: by row (the lowest), source and function; the smallest subset.

    Args:
        ws: Where everything is.
        project: Whose rows.
        run: For embeddings of the base that are made where no model is built yet.
        log: Told of the vectors that are made.
        max_rows: The newest training rows are looked at, at most so many.

    Raises:
        MissingArtifactError: If no day is cleaned.
        FMError: If there are too few dev gold rows or training rows.
    """
    spec = project.spec
    classes = list(spec.taxonomy.classes)
    seen = Seen(ws, project, run, log)
    training = _training(ws, project, seen, max_rows)
    dev, labels = _dev(ws, project, seen)
    if len(labels) < LEAST_DEV or training.rows.num_rows < LEAST_DEV:
        raise FMError(
            "too few rows to value",
            found=f"{len(labels)} dev gold rows, {training.rows.num_rows} training rows",
            expected=f"at least {LEAST_DEV} of each",
        )
    soft = tables.matrix(training.rows["probabilities"]).astype(np.float64)
    chosen = np.arange(len(labels)) % 2 == 0
    neighbours = int(np.clip(len(soft) // 20, *NEIGHBOURS))
    values = knn_shapley(training.vectors, soft, dev[chosen], labels[chosen], neighbours)
    order = np.lexsort((np.array(training.rows["row_id"].to_pylist()), values))
    hard = np.array([classes.index(x) for x in training.rows["label"].to_pylist()], np.int64)
    steps = _subsets(
        training.vectors, hard, removal_order(values, hard), dev[~chosen], labels[~chosen]
    )
    return {
        "project": spec.name,
        "method": f"KNN-Shapley, {neighbours} neighbours, {seen.told}",
        "model": seen.model.content_hash if seen.model else None,
        "training_rows": training.rows.num_rows,
        "dev_rows": {"valued_on": int(chosen.sum()), "checked_on": int((~chosen).sum())},
        "sources": _by_source(training.rows, values),
        "functions": _by_function(training, values),
        "lowest": [_row(training.rows, values, int(i)) for i in order[:_LOWEST]],
        "subsets": steps,
        "smallest": _smallest(steps),
    }


def removal_order(values: Floats, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return int64[n], rows in the order of their removal: of each class the same share.

    By value alone a rare class goes first, since most dev rows near its rows are of another.
    """
    share = np.zeros(len(values))
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label)
        share[own[np.argsort(values[own], kind="stable")]] = (np.arange(len(own)) + 0.5) / len(own)
    return np.lexsort((values, share))


def _training(ws: Workspace, project: LoadedProject, seen: Seen, most: int) -> Training:
    """Return the newest training rows; of the day that is cut the first by row id."""
    name = project.spec.name
    found: list[pa.Table] = []
    vectors: list[Matrix] = []
    votes: dict[str, tuple[str, ...]] = {}
    for cleaned in reversed(training_days(ws, project.spec)):
        left = most - sum(rows.num_rows for rows in found)
        day = str(cleaned.partition)
        raw = ws.ledger.latest(name, "raw", "raw", day)
        weak = ws.ledger.latest(name, "weak_labels", "weak_labels", day)
        if left <= 0 or raw is None or weak is None or not cleaned.rows:
            continue
        rows = tables.read(ws, cleaned, "cleaned")
        rows = rows.filter(pc.equal(rows["split"], "train")).slice(0, left)
        if not rows.num_rows:
            continue
        ids = rows["row_id"].to_pylist()
        found.append(rows)
        told = seen.of_rows(raw, set(ids))
        vectors.append(np.stack([told[row] for row in ids]))
        votes |= _agreeing(ws, weak, rows, list(project.spec.taxonomy.classes))
    if not found:
        raise MissingArtifactError(f"{name} has no training rows", next_step=f"fm run {name}")
    together = pa.concat_tables(found, promote_options="default")
    return Training(together, np.concatenate(vectors), votes)


def _agreeing(
    ws: Workspace, weak: Any, rows: pa.Table, classes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return row id -> functions that vote for the label that the row is trained with."""
    told = tables.read(ws, weak, "weak_labels", ["row_id", "votes"])
    spot = pc.index_in(rows["row_id"], value_set=told["row_id"].combine_chunks())
    votes = told["votes"].take(spot.combine_chunks()).to_pylist()
    names = list(weak.metrics["functions"])
    labels = [classes.index(label) for label in rows["label"].to_pylist()]
    return {
        row: tuple(name for name, vote in zip(names, said, strict=True) if vote == label)
        for row, said, label in zip(rows["row_id"].to_pylist(), votes, labels, strict=True)
    }


def _dev(ws: Workspace, project: LoadedProject, seen: Seen) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Return vectors and classes of the dev gold rows of the window whose day is in use."""
    spec = project.spec
    last = ws.ledger.last_partition(spec.name, "weak_labels", "weak_labels")
    gold = dev_gold(ws, spec, str(last)) if last else tables.GOLD.empty_table()
    vectors: dict[str, Matrix] = {}
    for day in sorted(set(gold["day"].to_pylist())):
        raw = ws.ledger.latest(spec.name, "raw", "raw", day)
        if raw is not None:
            ids = set(gold.filter(pc.equal(gold["day"], day))["row_id"].to_pylist())
            vectors |= seen.of_rows(raw, ids)
    known = [
        (vectors[row], spec.taxonomy.classes.index(label))
        for row, label in zip(gold["row_id"].to_pylist(), gold["label"].to_pylist(), strict=True)
        if row in vectors
    ]
    if not known:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.stack([v for v, _ in known]), np.array([label for _, label in known], np.int64)


def _subsets(
    vectors: Matrix,
    labels: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    dev: Matrix,
    dev_labels: npt.NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Return for growing shares of the lowest values removed how a head does on other dev rows."""
    from sklearn.linear_model import LogisticRegression

    near, held = unit(vectors), unit(dev)
    found = []
    for share in REMOVED:
        kept = order[int(share * len(order)) :]
        if len(set(labels[kept].tolist())) < 2:
            break
        head = LogisticRegression(C=10.0, max_iter=200).fit(near[kept], labels[kept])
        right = int((head.predict(held) == dev_labels).sum())
        low, high = wilson(right, len(dev_labels))
        found.append(
            {"removed": share, "rows": len(kept), "right": right, "dev_rows": len(dev_labels),
             "accuracy": round(right / len(dev_labels), 4), "low": round(low, 4),
             "high": round(high, 4)}
        )  # fmt: skip
    return found


def _smallest(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the last step up to which no step is right less often than all rows are."""
    kept = None
    for step in steps:
        if step["right"] < steps[0]["right"]:
            break
        kept = dict(step)
    return kept


def _by_source(rows: pa.Table, values: Floats) -> list[dict[str, Any]]:
    names = np.array(rows["source"].to_pylist(), dtype=object)
    return [_summed("source", name, values[names == name]) for name in sorted(set(names.tolist()))]


def _by_function(training: Training, values: Floats) -> list[dict[str, Any]]:
    members: dict[str, list[int]] = {}
    for i, row in enumerate(training.rows["row_id"].to_pylist()):
        for name in training.votes.get(row, ()):
            members.setdefault(name, []).append(i)
    return [_summed("function", name, values[listed]) for name, listed in sorted(members.items())]


def _summed(what: str, name: str, values: Floats) -> dict[str, Any]:
    n = len(values)
    return {
        what: name,
        "rows": n,
        "value": round(float(values.sum()), 6),
        "value_per_thousand_rows": round(1000 * float(values.mean()), 6),
        "harmful": round(float((values < 0).mean()), 4),
    }


def _row(rows: pa.Table, values: Floats, position: int) -> dict[str, Any]:
    one = rows.slice(position, 1).to_pylist()[0]
    kept = {name: one[name] for name in ("row_id", "day", "source", "label", "text")}
    return {**kept, "value": round(float(values[position]), 9)}
