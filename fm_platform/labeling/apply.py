"""Ask one labeling function for its votes on many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fm_platform.labeling.functions import ABSTAIN as ABSTAIN
from fm_platform.labeling.functions import LabelingContext as LabelingContext
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.partial import NO_SETS, ClassSets, Votes, unite

FIRST_FAILURES = 3


@dataclass(frozen=True)
class VoteColumn:
    """What one function says of some rows.

    Attributes:
        name: The function.
        votes: int8[n]; class index, -1 abstains, below that a set of `sets`.
        failed_rows: Rows on which it raised; they abstain.
        first_failures: Row id and error type of the first three; never row text.
    """

    name: str
    votes: Votes
    failed_rows: int
    first_failures: tuple[str, ...]
    sets: ClassSets = NO_SETS


def apply_function(
    function: LabelingFunction,
    batches: Iterable[pa.RecordBatch],
    classes: Sequence[str],
    context: LabelingContext | None = None,
) -> VoteColumn:
    """Return the votes of `function`, batch by batch.

    An exemplar function gets all rows at once: its context describes them all.

    Raises:
        FunctionFailureError: If it returns an unknown class.
    """
    context = context or LabelingContext()
    listed = list(batches) if function.needs == "exemplars" else batches
    if isinstance(listed, list) and len(listed) > 1:
        listed = pa.Table.from_batches(listed).combine_chunks().to_batches()
    votes: list[tuple[Votes, ClassSets]] = []
    failed = 0
    first: list[str] = []
    for batch in listed:
        outcome = function.run(batch, classes, context)
        votes.append((outcome.votes, outcome.sets))
        failed += len(outcome.failures)
        for row, reason in sorted(outcome.failures.items())[: FIRST_FAILURES - len(first)]:
            identity = batch.column("row_id")[row].as_py()
            first.append(f"{identity}: {reason}")
    parts, sets = unite(votes)
    column = np.concatenate(parts) if parts else np.zeros(0, np.int8)
    return VoteColumn(function.name, column, failed, tuple(first), sets)
