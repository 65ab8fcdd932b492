"""Functions that compare a column with a value: numbers, measures of the text, metadata."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_platform.labeling.conditions import of_condition
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.kinds import KINDS

if TYPE_CHECKING:
    import polars as pl

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@KINDS.register("rule")
def rule(declared: Any, directory: Path) -> LabelingFunction:
    """Compare a column with a value."""

    def condition() -> pl.Expr:
        import polars as pl

        column = pl.col(declared.column)
        value = declared.value
        if declared.operator == "in":
            return column.is_in(list(value) if isinstance(value, tuple) else [value])
        compared: pl.Expr = _OPERATORS[declared.operator](column, value)
        return compared

    return of_condition(declared, condition)
