"""Which rows are in the declared slices."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import LabelingError
from fm_platform.labeling.tokens import tokens_of

if TYPE_CHECKING:
    import polars as pl

ALL = "all"
"""The slice of all rows, and the source that stands for all of them."""
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def columns_of(slices: Sequence[Any]) -> list[str]:
    """Return the columns of `raw` that the slices look at, sorted."""
    measured = {"char_count": "text", "word_count": "text"}
    return sorted({measured.get(one.column, one.column) for one in slices})


def in_slices(slices: Sequence[Any], rows: pa.Table) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each slice which rows are in it, bool[n], in the declared order.

    Args:
        slices: As declared (`fm_platform.spec.slices.Slice`).
        rows: n rows with the columns of `columns_of`.

    Raises:
        LabelingError: If a value cannot be compared with its column.
    """
    if not slices:
        return {}
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(rows.select(columns_of(slices))))
    found = {}
    for one in slices:
        column = _column(one.column, frame)
        try:
            if one.operator == "in":
                told = column.is_in(
                    list(one.value) if isinstance(one.value, tuple) else [one.value]
                )
            else:
                told = _OPERATORS[one.operator](column, one.value)
        except (pl.exceptions.PolarsError, TypeError):
            raise LabelingError(
                f"slice {one.name!r} compares a column with a value of another type",
                found=f"{one.column} of type {column.dtype}, value {one.value!r}",
                next_step="declare the column with another type, or compare with its type",
            ) from None
        found[one.name] = np.array(told.fill_null(False).to_numpy(), np.bool_)
    return found


def _column(name: str, frame: pl.DataFrame) -> pl.Series:
    if name == "char_count" and name not in frame.columns:
        return frame["text"].str.len_chars()
    if name == "word_count" and name not in frame.columns:
        import polars as pl

        return pl.Series(name, tokens_of(frame["text"]).counts())
    return frame[name]
