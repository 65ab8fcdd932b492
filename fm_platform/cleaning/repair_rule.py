"""The rule `metadata_repair`: sure repairs of metadata are made, unsure ones wait for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.cleaning.repair import Proposal
from fm_platform.cleaning.rules import RULES, DayContext, Repair, Verdicts
from fm_platform.errors import FMError


@dataclass(frozen=True)
class Repairs:
    """What is proposed for the rows of a day.

    Attributes:
        proposals: Row id -> column -> another value.
    """

    proposals: Mapping[str, Mapping[str, Proposal]] = field(default_factory=dict)

    def told(self) -> list[tuple[str, str, str, str]]:
        """Return all that decides as JSON values, in one order."""
        return [
            (row, column, str(one.after), f"{one.probability:.4f}")
            for row, columns in sorted(self.proposals.items())
            for column, one in sorted(columns.items())
        ]


@RULES.register("metadata_repair")
def metadata_repair(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Give cells the value that is believed instead, where it is sure enough.

    What cannot be right and has no likely value stays, and is proposed to be made missing.
    The effect of a review is the chance that what is done with the cell is wrong.
    """
    found = context.known
    if not isinstance(found, Repairs):
        raise FMError("the metadata of this day was not looked at")
    least = min(rule.review_probability, rule.minimum_probability)
    repairs: dict[int, list[Repair]] = {}
    now = {name: rows[name].to_pylist() for name in rule.columns}
    for i, row in enumerate(rows["row_id"].to_pylist()):
        for column, one in sorted(found.proposals.get(row, {}).items()):
            known = one.probability >= least
            if now[column][i] != one.before or not (known or one.outside):
                continue  # an earlier rule repaired it, or not sure enough
            applied = known and one.probability >= rule.minimum_probability
            applied = applied or row in context.accepted
            after = one.after if known else None
            said = f"{one.after!r} with probability {one.probability:.2f}"
            reason = (
                f"{one.doubt}; {said if known else 'no value is likely, so it would be missing'}"
            )
            right = one.probability if known else 1.0
            wrong = 1 - right if applied else right
            repairs.setdefault(i, []).append(
                Repair(column, one.before, after, one.probability, reason, applied, wrong)
            )
    return Verdicts(np.zeros(rows.num_rows, bool), repairs=repairs)
