"""By how much a review of a row is expected to move the model.

Krishnan et al. 2016, "ActiveClean: Interactive Data Cleaning For Statistical Modeling" (VLDB 9):
rows are cleaned first whose gradient, times the chance that they are dirty, is largest. Here the
model is a linear head on the frozen embeddings, fitted on a bounded sample of the newest rows, and
the gradient of a row is that of its loss under the label that the review is about. Embeddings are
only read where they are recorded; a row without one keeps the chance alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.stages import tables
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.stages.review import Deed

FITTED_ROWS = 3_000
FITTED_DAYS = 28
_LEAST_ROWS = 50
Matrix = npt.NDArray[np.float32]
Known = dict[str, tuple[Matrix, npt.NDArray[np.float32]]]
"""Row id -> embedding [d] and probabilities [k] of its weak label."""


def by_effect(ws: Workspace, project: str, listed: Sequence[Deed]) -> list[Deed]:
    """Return deeds with their effect, those first whose review is expected to move the model most.

    A correction of a label has its effect from when it was made: it is one of the same kind.
    """
    days: dict[str, set[str]] = defaultdict(set)
    for deed in listed:
        days[deed.day].add(deed.row_id)
    head = _Head.of(ws, project) if days else None
    lengths: dict[str, float] = {}
    if head is not None:
        for day, rows in sorted(days.items()):
            lengths |= head.lengths(_rows(ws, project, day, pa.array(sorted(rows))))
    # a row that cannot be looked at is taken for a typical one
    usual = float(np.median(list(lengths.values()))) if lengths else 1.0
    weighed = [
        deed
        if deed.column == "label"
        else replace(deed, effect=deed.effect * lengths.get(deed.row_id, usual))
        for deed in listed
    ]
    return sorted(weighed, key=lambda deed: (-deed.effect, deed.day, deed.rule, deed.row_id))


class _Head:
    """A linear head on frozen embeddings, fitted on weak labels."""

    def __init__(self, model: Any, classes: int) -> None:
        self.model, self.classes = model, classes

    @classmethod
    def of(cls, ws: Workspace, project: str) -> _Head | None:
        """Return a head, or None where too few rows have embeddings."""
        from sklearn.linear_model import LogisticRegression

        known: Known = {}
        last = ws.ledger.last_partition(project, "weak_labels", "weak_labels")
        versions = ws.ledger.latest_of_days(project, "embeddings", "embeddings", "", last or "")
        for version in versions[::-1][:FITTED_DAYS]:
            left = FITTED_ROWS - len(known)
            if left <= 0:
                break
            day = _rows(ws, project, str(version.partition), None)
            known |= dict(sorted(day.items())[:left])
        if len(known) < _LEAST_ROWS:
            return None
        vectors = np.stack([vector for vector, _ in known.values()])
        told = np.stack([probabilities for _, probabilities in known.values()])
        labels = told.argmax(axis=1)
        if len(set(labels.tolist())) < 2:
            return None
        return cls(LogisticRegression(C=1.0, max_iter=200).fit(vectors, labels), told.shape[1])

    def lengths(self, rows: Mapping[str, tuple[Matrix, Any]]) -> dict[str, float]:
        """Return row id -> length of the gradient of its loss by the weights of the head."""
        if not rows:
            return {}
        vectors = np.stack([vector for vector, _ in rows.values()])
        told = np.stack([probabilities for _, probabilities in rows.values()])
        predicted = np.zeros((len(rows), self.classes))
        predicted[:, self.model.classes_] = self.model.predict_proba(vectors)
        rest = np.linalg.norm(predicted - told, axis=1) * np.linalg.norm(vectors, axis=1)
        return dict(zip(rows, rest.tolist(), strict=True))


def _rows(ws: Workspace, project: str, day: str, wanted: pa.Array | None) -> Known:
    """Return labeled rows of a day, none of the test split; only `wanted` ones where given."""
    weak = ws.ledger.latest(project, "weak_labels", "weak_labels", day)
    embedded = ws.ledger.latest(project, "embeddings", "embeddings", day)
    if weak is None or embedded is None:
        return {}
    columns = ["row_id", "split", "probabilities", "labeled"]
    rows = tables.read(ws, weak, "weak_labels", columns)
    rows = rows.filter(pc.and_(rows["labeled"], pc.not_equal(rows["split"], "test")))
    if wanted is not None:
        rows = rows.filter(pc.is_in(rows["row_id"], value_set=wanted))
    vectors = ws.columns.get(str(embedded.location["column"]))
    spot = pc.index_in(rows["row_id"], value_set=vectors["row_id"].combine_chunks())
    rows, spot = rows.filter(pc.is_valid(spot)), spot.drop_null()
    if not rows.num_rows:
        return {}
    matrix = tables.matrix(vectors["embedding"].take(spot.combine_chunks()))
    told = tables.matrix(rows["probabilities"])
    ids = rows["row_id"].to_pylist()
    return {row: (vector, p) for row, vector, p in zip(ids, matrix, told, strict=True)}
