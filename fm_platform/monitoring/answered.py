"""What the live model answered on a sample, and how often such answers are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.monitoring.measure import join, project, same, sliced
from fm_platform.monitoring.profile import Profile

Floats = npt.NDArray[np.float64]

_MOST_STEPS = 50
_SMALL = 1e-6


@dataclass(frozen=True)
class Answered:
    """The rows of a sample as the model answered them.

    Attributes:
        sure: Largest probability, float64[n].
        right: 1 and 0 where people labeled, NaN elsewhere, float64[n].
        weak: Probability that the model gives the weak label, NaN where there is none.
        agrees: 1 where the model gives the weak label, -1 where another, 0 where there is none.
        labeled: 1 and 0 for weak labels that are right by people and not, NaN where none labeled;
            a row without a weak label has no right one.
        vectors: Projected embeddings with the probabilities beside them, float64[n, d].
        sources: Source of each row.
        beside: Rows that were taken only because people labeled them, or None: they are no sample
            of the day, and have no embedding.
    """

    sure: Floats
    right: Floats
    weak: Floats
    agrees: Floats
    labeled: Floats
    vectors: Floats
    sources: npt.NDArray[Any]
    beside: Answered | None = None

    def __len__(self) -> int:
        return len(self.sure)

    @property
    def judged(self) -> Answered:
        """All rows that people labeled: of the sample, and those beside it; without vectors."""
        sides = [self] if self.beside is None else [self, self.beside]
        kept = [~np.isnan(side.labeled) for side in sides]

        def column(name: str) -> npt.NDArray[Any]:
            return np.concatenate(
                [getattr(side, name)[rows] for side, rows in zip(sides, kept, strict=True)]
            )

        names = [f.name for f in fields(self) if f.name not in ("vectors", "beside")]
        columns: dict[str, Any] = {name: column(name) for name in names}
        return Answered(**columns, vectors=np.zeros((len(columns["sure"]), 0)))


def answered(
    sample: pa.Table | None, classes: Sequence[str], judged: pa.Table | None = None
) -> Answered | None:
    """Return the model's answers on a sample, or None where it holds none.

    Args:
        sample: Columns `source`, `champion` list<float> and of these what there is: `gold`,
            `label`, `embedding` list<float32>.
        classes: Names of the classes.
        judged: Further rows that people labeled, with the same columns.
    """
    if sample is None or "champion" not in sample.column_names or sample.num_rows == 0:
        return None
    n = sample.num_rows
    told = told_of(sample).astype(np.float64)
    index = {name: i for i, name in enumerate(classes)}

    def spots(column: str) -> npt.NDArray[np.int64]:
        if column not in sample.column_names:
            return np.full(n, -1)
        return np.array([index.get(value, -1) for value in sample[column].to_pylist()], np.int64)

    gold, label = spots("gold"), spots("label")
    right = np.where(gold >= 0, (told.argmax(axis=1) == gold).astype(float), np.nan)
    labeled = np.where(gold >= 0, (label == gold).astype(float), np.nan)
    weak = np.where(label >= 0, told[np.arange(n), np.maximum(label, 0)], np.nan)
    agrees = np.where(label >= 0, np.where(told.argmax(axis=1) == label, 1.0, -1.0), 0.0)
    parts = [np.log(np.clip(told, 1e-4, 1.0))]
    if "embedding" in sample.column_names:
        flat = np.asarray(sample["embedding"].combine_chunks().flatten(), np.float32)
        parts.append(project(flat.reshape(n, -1)).astype(np.float64))
    sources = np.array(sample["source"].to_pylist(), object)
    return Answered(
        told.max(axis=1), right, weak, agrees, labeled, np.concatenate(parts, axis=1), sources,
        answered(judged, classes),
    )  # fmt: skip


def with_answers(profile: Profile) -> Profile:
    """Return a profile with metrics of what a model answered, where its rows hold `champion`.

    Metrics: of the sample `answer:champion` (class), `confidence:champion` (largest probability)
    and `agreement:champion` (with the weak label); of all rows that people labeled
    `accuracy:champion`.
    """
    sample = profile.sample
    if sample is None or not sample.num_rows or "champion" not in sample.column_names:
        return profile
    told, answer = told_of(sample), best_answer(sample, profile.classes)
    columns: list[tuple[str, pa.Array]] = [
        ("answer:champion", answer),
        ("confidence:champion", pa.array(told.max(axis=1).astype(np.float64))),
    ]
    if "label" in sample.column_names:
        agrees = same(sample["label"], answer, ("agrees", "differs"))
        columns.append(("agreement:champion", agrees))
    found = sliced(columns, sample["source"])
    judged = [
        side.filter(pc.is_valid(side["gold"]))
        for side in (sample, profile.judged)
        if side is not None and {"gold", "champion"} <= set(side.column_names)
    ]
    if any(side.num_rows for side in judged):
        people = pa.concat_tables([side.select(["source", "gold", "champion"]) for side in judged])
        right = same(people["gold"], best_answer(people, profile.classes), ("right", "wrong"))
        for name, own in sliced([("accuracy:champion", right)], people["source"]).items():
            found[name] = {**found.get(name, {}), **own}
    return join(profile, found)


def told_of(rows: pa.Table) -> npt.NDArray[np.float32]:
    """Return the model's probabilities of rows, float32[n, k], by their column `champion`."""
    flat = np.asarray(rows["champion"].combine_chunks().flatten(), np.float32)
    return flat.reshape(rows.num_rows, -1)


def best_answer(rows: pa.Table, classes: Sequence[str]) -> pa.Array:
    """Return the class that a model holds most probable, by its column `champion`."""
    return pa.array([classes[spot] for spot in told_of(rows).argmax(axis=1).tolist()], pa.string())


def weights(rows: Answered, shares: Mapping[str, float] | None) -> Floats:
    """Return the weight of each row, sum 1: sources have such shares; None: as they are drawn."""
    names, spots, counts = np.unique(
        rows.sources.astype(str), return_inverse=True, return_counts=True
    )
    if shares is None:
        return np.full(len(rows), 1 / max(len(rows), 1))
    wanted = np.array([float(shares.get(name, 0.0)) for name in names.tolist()])
    found = np.asarray((wanted / counts)[spots], np.float64)
    total = found.sum()
    return found / total if total > 0 else np.full(len(rows), 1 / max(len(rows), 1))


def signs(rows: Answered) -> Floats:
    """Return what tells that an answer is right: sureness as a logit, agreement, float64[n, 2]."""
    return np.column_stack([logit(rows.sure), rows.agrees])


@dataclass(frozen=True)
class Calibration:
    """How often answers with such signs are right.

    Attributes:
        line: Weights of the signs and a constant, float64[3].
        spread: Covariance of these weights, float64[3, 3].
    """

    line: Floats
    spread: Floats

    def told(self, asked: Floats) -> Floats:
        """Return how often answers with signs [m, 2] are right, float64[m]."""
        return _logistic(_with_constant(asked) @ self.line)

    def slope(self, asked: Floats, weight: Floats) -> Floats:
        """Return how the weighted sum of `told` moves with the line, float64[3]."""
        p = self.told(asked)
        return np.asarray((weight * p * (1 - p)) @ _with_constant(asked), np.float64)


def calibrate(known: Floats, right: Floats) -> Calibration:
    """Fit a logistic regression by Newton's steps.

    A little ridge draws it to the model's own sureness (slope 1), and agreement to no weight.

    Args:
        known: Signs of answers that people judged, float64[n, 2].
        right: 1 and 0, float64[n].
    """
    x = _with_constant(known)
    usual, ridge = np.array([1.0, 0.0, 0.0]), np.diag([1.0, 1.0, 1e-3])

    def cost(line: Floats) -> float:
        told, away = x @ line, line - usual
        return float(np.logaddexp(0.0, told).sum() - right @ told + 0.5 * away @ ridge @ away)

    line = usual.copy()
    for _ in range(_MOST_STEPS):
        p = _logistic(x @ line)
        gradient = x.T @ (right - p) - ridge @ (line - usual)
        step = np.linalg.solve(_curved(x, p) + ridge, gradient)
        before = cost(line)
        # a full step from far away overshoots, and the next one flies off: halved until it helps
        while cost(line + step) > before and np.abs(step).max() > _SMALL:
            step = step / 2
        line = line + step
        if np.abs(step).max() <= _SMALL:
            break
    spread = np.linalg.inv(_curved(x, _logistic(x @ line)) + ridge)
    return Calibration(line, np.asarray(spread, np.float64))


def _curved(x: Floats, p: Floats) -> Floats:
    w = np.maximum(p * (1 - p), 1e-6)
    return np.asarray((x * w[:, None]).T @ x, np.float64)


def calibrated(known: Floats, right: Floats, asked: Floats) -> Floats:
    """Return how often answers with signs `asked` are right, as judged ones tell, float64[m]."""
    return calibrate(known, right).told(asked)


def _with_constant(signs: Floats) -> Floats:
    return np.column_stack([signs, np.ones(len(signs))])


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30.0, 30.0))), np.float64)


def logit(share: Floats) -> Floats:
    """Return shares as log odds, kept finite."""
    kept = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(kept / (1 - kept)), np.float64)
