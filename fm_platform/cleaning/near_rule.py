"""The rule `near_duplicates`: of each group of near duplicates, only the first row is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.cleaning.rules import RULES, DayContext, Verdicts
from fm_platform.errors import FMError


@dataclass(frozen=True)
class Twin:
    """Another row that a row is like.

    Attributes:
        row_id: Of the other row.
        day: Of the other row.
        test: Whether it is a test row.
        similarity: Jaccard similarity, exact.
    """

    row_id: str
    day: str
    test: bool
    similarity: float


@dataclass(frozen=True)
class Twins:
    """Which rows of a day are near duplicates.

    Attributes:
        outside: Row id -> a row that it must not repeat: a test row, or one of an earlier day.
        today: Row id -> an earlier row of the day, by row id, that it is like.
        leaked: Test row id -> a row of an earlier day that was there to train on.
    """

    outside: Mapping[str, Twin] = field(default_factory=dict)
    today: Mapping[str, Twin] = field(default_factory=dict)
    leaked: Mapping[str, Twin] = field(default_factory=dict)

    def told(self) -> list[list[tuple[str, str, str]]]:
        """Return all of it as JSON values, in one order."""
        return [
            sorted((row, twin.row_id, f"{twin.similarity:.6f}") for row, twin in part.items())
            for part in (self.outside, self.today, self.leaked)
        ]


@RULES.register("near_duplicates")
def near_duplicates(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove what is like a test row, a row of an earlier day, or a row kept today.

    Rows of today form groups around their first one. If an earlier rule removed that, the next
    one of the group is kept.
    """
    twins = context.known
    if not isinstance(twins, Twins):
        raise FMError("the near duplicates of this day were not looked up")
    remove = np.zeros(rows.num_rows, bool)
    reasons = []
    kept: dict[str, str] = {}
    for i, row in enumerate(rows["row_id"].to_pylist()):
        twin = twins.outside.get(row)
        first = _first_of_group(row, twins.today)
        if twin is not None:
            where = f"test row {twin.row_id}" if twin.test else f"row {twin.row_id} of {twin.day}"
            reasons.append(f"{twin.similarity:.2f} alike with {where}")
        elif first in kept:
            near = twins.today.get(row)
            alike = f"{near.similarity:.2f} alike with row {near.row_id}, " if near else ""
            reasons.append(f"{alike}of the group of row {kept[first]} of today")
        else:
            kept[first] = row
            continue
        remove[i] = True
    return Verdicts(remove, reasons)


def _first_of_group(row: str, today: Mapping[str, Twin]) -> str:
    while row in today:
        row = today[row].row_id
    return row
