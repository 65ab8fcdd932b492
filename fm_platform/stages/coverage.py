"""Is there enough of every class, over all and in each declared slice, to train on?

A row counts for a class with the probability of its weak label. Two numbers bound what such rows
are worth, and the smaller one is the effective sample: the sum of the probabilities, which is how
many rows of the class are expected, and the effective sample size (Kish 1965, "Survey Sampling")
of the distinct texts, (sum w)^2 / sum w^2 with a text's probabilities summed over its rows of one
day. The second alone would take ten thousand rows of probability 0.01 for ten thousand rows; the
first alone would take one text that came a hundred times for a hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import CoverageError
from fm_platform.labeling.slices import ALL, columns_of, in_slices
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult
from fm_platform.workspace import Workspace

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One class in one slice.

    Attributes:
        slice: Its name; `all` for all rows.
        expected: Sum of the probabilities.
        kish: Effective size of the distinct texts.
        need: What is declared.
    """

    slice: str
    label: str
    expected: float
    kish: float
    need: float

    @property
    def have(self) -> float:
        """The effective sample."""
        return min(self.expected, self.kish)

    @property
    def enough(self) -> bool:
        """Whether it is what is declared."""
        return self.have >= self.need

    def to_row(self) -> dict[str, Any]:
        """Return it as a row of a table, the numbers of rows rounded."""
        return {
            "slice": self.slice, "class": self.label, "effective": round(self.have, 1),
            "expected": round(self.expected, 1), "kish": round(self.kish, 1),
            "minimum": self.need, "enough": self.enough,
        }  # fmt: skip


def effective(weights: Floats) -> tuple[float, float]:
    """Return the sum of weights and their effective sample size after Kish; (0, 0) for none.

    Args:
        weights: float[n], not negative: one a distinct text.

    Example:
        >>> effective(np.array([1.0, 1.0, 2.0]))[0]
        4.0
        >>> round(effective(np.array([1.0, 1.0, 2.0]))[1], 2)
        2.67
    """
    return _sizes(float(weights.sum()), float((weights**2).sum()))


def cells(ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion]) -> list[Cell]:
    """Return every class of every slice over the train rows of some days; none if not declared.

    One day is in memory at a time.

    Args:
        ws: Where the rows are.
        spec: The project.
        days: `cleaned` of the training window.
    """
    declared = spec.coverage
    if declared is None:
        return []
    classes = spec.taxonomy.classes
    sums = {name: np.zeros((2, len(classes))) for name in _needs(spec)}
    for day in days:
        if day.rows:
            _add_day(ws, spec, day, sums)
    found = []
    for name, needs in _needs(spec).items():
        for label, need in needs.items():
            expected, kish = _sizes(*sums[name][:, classes.index(label)])
            found.append(Cell(name, label, expected, kish, need))
    return found


def require_coverage(ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion]) -> None:
    """Refuse to train where a declared class or slice is too small.

    Raises:
        CoverageError: With every class and slice that lacks rows, how many there are and how many
            there must be.
    """
    missing = [cell for cell in cells(ws, spec, days) if not cell.enough]
    if missing:
        raise CoverageError(
            "there are too few rows to train on",
            where=f"{spec.name}, {len(days)} days",
            expected="; ".join(f"{_where(c)}: at least {c.need:g} effective rows" for c in missing),
            found="; ".join(f"{_where(cell)}: {cell.have:.1f}" for cell in missing),
            next_step=next_step(spec, missing),
        )


def coverage_check(
    ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion]
) -> CheckResult:
    """Return the verdict on the training window, with every class and slice in a table."""
    found = cells(ws, spec, days)
    missing = [cell for cell in found if not cell.enough]
    if missing:
        lacking = "; ".join(
            f"{_where(c)} has {c.have:.1f} of {c.need:g} effective rows" for c in missing
        )
        told = f"Training will refuse: {lacking}. Next: {next_step(spec, missing)}"
    else:
        told = f"All {len(found)} classes and slices have the effective rows that are declared."
    rows = [cell.to_row() for cell in found]
    return CheckResult("coverage", not missing, told, {"coverage": rows}, blocking=False)


def next_step(spec: ProjectSpec, missing: Sequence[Cell]) -> str:
    """Return where rows of what is missing could come from."""
    labels = " ".join(f"--class {name}" for name in sorted({cell.label for cell in missing}))
    return (
        f"fm label queue {spec.name} --annotator NAME {labels} lists the rows most likely of them;"
        " labeling functions for these classes, more days or sources, or a lower minimum"
    )


def _needs(spec: ProjectSpec) -> dict[str, dict[str, float]]:
    """Return slice -> class -> declared minimum."""
    declared = spec.coverage
    if declared is None:
        return {}
    classes = spec.taxonomy.classes
    found = {ALL: {name: declared.classes.get(name, declared.minimum) for name in classes}}
    for part, need in declared.slices.items():
        found[part] = need if isinstance(need, dict) else dict.fromkeys(classes, need)
    return found


def _add_day(
    ws: Workspace, spec: ProjectSpec, day: ArtifactVersion, sums: Mapping[str, Floats]
) -> None:
    """Add sum and sum of squares of the weights of one day's texts, by slice and class."""
    names = ["row_id", "source", "split", "text", "probabilities"]
    rows = tables.read(ws, day, "cleaned", names)
    rows = rows.filter(pc.equal(rows["split"], "train"))
    if not rows.num_rows:
        return
    texts = pc.dictionary_encode(rows["text"].combine_chunks()).indices.to_numpy()
    probabilities = np.asarray(tables.matrix(rows["probabilities"]), np.float64)
    slices = [part for part in spec.slices if part.name in sums]
    inside = in_slices(slices, _with_columns(ws, spec, day, rows, columns_of(slices)))
    for name, chosen in {ALL: np.ones(len(texts), np.bool_), **inside}.items():
        weights = np.zeros((int(texts.max()) + 1, probabilities.shape[1]))
        np.add.at(weights, texts[chosen], probabilities[chosen])
        sums[name][0] += weights.sum(axis=0)
        sums[name][1] += (weights**2).sum(axis=0)


def _with_columns(
    ws: Workspace, spec: ProjectSpec, day: ArtifactVersion, rows: pa.Table, columns: Sequence[str]
) -> pa.Table:
    """Return rows with columns of the contract, which cleaned rows do not carry."""
    missing = [name for name in columns if name not in rows.column_names]
    if not missing:
        return rows
    raw = ws.ledger.latest(spec.name, "raw", "raw", day.partition)
    if raw is None:
        raise CoverageError(
            "a slice is by a column of raw, which is not there any more",
            where=f"{spec.name}, raw of {day.partition}", found=", ".join(missing),
            next_step=f"fm run {spec.name} --from {day.partition} --to {day.partition}",
        )  # fmt: skip
    given = tables.read(ws, raw, "raw", ["row_id", *missing])
    place = pc.index_in(rows["row_id"], value_set=given["row_id"].combine_chunks())
    for name in missing:
        rows = rows.append_column(name, given[name].take(place))
    return rows


def _sizes(total: float, squares: float) -> tuple[float, float]:
    return float(total), float(total**2 / squares) if squares > 0 else 0.0


def _where(cell: Cell) -> str:
    return f"class {cell.label}" + ("" if cell.slice == ALL else f" in slice {cell.slice}")
