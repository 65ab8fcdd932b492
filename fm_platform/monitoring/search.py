"""Looked up for a cause: which terms came, which function lost trust, where the errors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.monitoring.answered import best_answer, told_of
from fm_platform.monitoring.measure import structured
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.records import ALL, Cause
from fm_platform.monitoring.segments import Evidence
from fm_platform.monitoring.sketches import CategorySketch, aligned

_LEAST = 6
_ENOUGH = 0.5
"""A segment is named where it holds this share of the new errors."""


def trust_lost(functions: Sequence[str], name: str, evidence: Evidence) -> dict[str, float]:
    """Return by how much the live model agrees less with the votes of each function.

    Two functions that contradict each other say nothing of which one broke; the model, which
    learned from all of them, is asked.

    Returns:
        Function -> fall of the share of its votes that the model's answer agrees with.
    """
    sides = []
    for sample in (evidence.reference.profile.sample, evidence.day.sample):
        if sample is None or not {"votes", "champion"} <= set(sample.column_names):
            return {}
        rows = sample if name == ALL else sample.filter(pc.equal(sample["source"], name))
        if not rows.num_rows:
            return {}
        n = rows.num_rows
        votes = np.asarray(rows["votes"].combine_chunks().flatten(), np.int64).reshape(n, -1)
        answer = told_of(rows).argmax(axis=1)[:, None]
        given = votes >= 0
        # few votes say little: twenty more are taken to be agreed with half the time
        sides.append((((votes == answer) & given).sum(axis=0) + 10) / (given.sum(axis=0) + 20))
    fall = sides[0] - sides[1]
    positions = {function: i for i, function in enumerate(evidence.watch.functions)}
    return {f: float(max(fall[positions[f]], 0.0)) for f in functions if f in positions}


def concept(name: str, evidence: Evidence, said: str = "champion") -> Cause:
    """Return in which rows answers became wrong though nothing else moved.

    Of all values of all columns the one is taken whose rows hold most of the errors that are new
    and little else: share of the new errors minus half the share of the rows.

    Args:
        name: Slice that is looked at.
        evidence: The day and the reference.
        said: Whose answers: those of the `champion`, or the weak ones (`label`).
    """
    today = _judged(evidence.day, name, evidence, said)
    before = _judged(evidence.reference.profile, name, evidence, said)
    nothing = Cause("concept", "accuracy", None, (name,))
    if today is None or before is None:
        return nothing
    wrong, columns = today
    wrong_before, columns_before = before
    expected = float(wrong_before.mean())
    excess = float(wrong.sum() - expected * len(wrong))
    best: tuple[float, str, str, float] | None = None
    for column in sorted(columns):
        for value in sorted({v for v in columns[column].tolist() if v is not None}):
            inside = columns[column] == value
            then = columns_before[column] == value
            if inside.sum() < 5 or then.sum() < 5 or excess <= 0:
                continue
            usual = float(wrong_before[then].mean())
            share = float(wrong[inside].sum() - usual * inside.sum()) / excess
            # what the model answered is named only where no column tells as much
            score = min(share, 1.1) - 0.5 * float(inside.mean()) - (column == "answer")
            if best is None or score > best[0]:
                best = (score, column, value, min(share, 1.0))
    if best is None or best[3] < _ENOUGH:
        return nothing
    return Cause("concept", best[1], best[2], (name,), explained=best[3])


def _judged(
    profile: Profile, name: str, evidence: Evidence, said: str
) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.object_]]] | None:
    """Return 1 for each wrong answer on gold, and the category columns of the same rows."""
    wanted = ["source", "gold", said, *evidence.watch.columns]
    sides = [
        side.select(wanted)
        for side in (profile.sample, profile.judged)
        if side is not None and set(wanted) <= set(side.column_names)
    ]
    if not sides:
        return None
    rows = pa.concat_tables(sides, promote_options="default")
    rows = rows.filter(pc.and_(pc.is_valid(rows["gold"]), pc.is_valid(rows[said])))
    if name != ALL:
        rows = rows.filter(pc.equal(rows["source"], name))
    if rows.num_rows < _LEAST:
        return None
    answer = rows[said] if said == "label" else best_answer(rows, evidence.day.classes)
    columns = {"source": np.array(rows["source"].to_pylist(), object)}
    for column in evidence.watch.columns:
        values = structured(rows[column], evidence.day.day).to_pylist()
        if all(isinstance(value, str) or value is None for value in values):
            columns[column] = np.array(values, object)
    columns["answer"] = np.array(answer.to_pylist(), object)
    gold = np.array(rows["gold"].to_pylist(), object)
    return (columns["answer"] != gold).astype(float), columns


def terms_of_slice(name: str, evidence: Evidence, most: int = 4) -> tuple[str, ...]:
    """Return the terms of a source that came most surely, compared with it or, if new, with all."""
    now = evidence.day.sketch("terms:text", name)
    known = evidence.reference.profile.sketch("terms:text", name) or (
        evidence.reference.profile.sketch("terms:text")
    )
    if not isinstance(now, CategorySketch) or not isinstance(known, CategorySketch):
        return ()
    if not now.rows or not known.rows:
        return ()
    pair = aligned(now, known)
    after, before = pair.first / now.rows, pair.second / known.rows
    together = (pair.first + pair.second + 1) / (now.rows + known.rows + 2)
    spread = np.sqrt(together * (1 - together) * (1 / now.rows + 1 / known.rows))
    deviate = np.where(pair.first >= 3, (after - before) / spread, 0.0)
    # words that are everywhere tell nothing, however surely they moved
    telling = np.where(before < 0.2, deviate, 0.0)
    order = np.lexsort((np.arange(len(telling)), -telling))[:most]
    return tuple(pair.values[i] for i in order if telling[i] > 4.0)
