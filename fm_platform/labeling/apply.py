"""Ask labeling functions for their votes on many rows."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyarrow as pa

from fm_platform.labeling.functions import ABSTAIN as ABSTAIN
from fm_platform.labeling.functions import LabelingContext as LabelingContext
from fm_platform.labeling.functions import LabelingFunction, Outcome
from fm_platform.labeling.outcome import Shared
from fm_platform.labeling.partial import NO_SETS, ClassSets, Votes, unite
from fm_platform.labeling.watch import Watch

FIRST_FAILURES = 3
BATCH_ROWS = 16_384
MOST_THREADS = 8
_TRIM, _MAP = (-1, 128 << 20), (-3, 32 << 20)
"""Parameters of GNU `mallopt`, bytes: what is kept at the heap's end, and what is mapped apart."""


@dataclass(frozen=True)
class VoteColumn:
    """What one function says of some rows.

    Attributes:
        name: The function.
        votes: int8[n]; class index, -1 abstains, below that a set of `sets`.
        failed_rows: Rows on which it raised or took too long; they abstain.
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
    *,
    timeout_s: float | None = None,
) -> VoteColumn:
    """Return the votes of `function`, batch by batch.

    A function that learns gets all rows at once: its context describes them all.

    Args:
        function: The function.
        batches: Rows with a column `row_id` and those that the function reads.
        classes: The classes, in the order of their indices.
        context: What it may know besides the rows.
        timeout_s: What one call of a Python function may take: a row, or a batch.

    Raises:
        FunctionFailureError: If it returns an unknown class.
    """
    if function.needs:
        listed = list(batches)
        if len(listed) > 1:
            listed = pa.Table.from_batches(listed).combine_chunks().to_batches()
        batches = listed
    (column,) = apply_functions([function], batches, classes, context, timeout_s=timeout_s)
    return column


def apply_functions(
    functions: Sequence[LabelingFunction],
    batches: Iterable[pa.RecordBatch],
    classes: Sequence[str],
    context: LabelingContext | None = None,
    *,
    timeout_s: float | None = None,
    threads: int | None = None,
) -> list[VoteColumn]:
    """Return the votes of several functions that need the rows alone, in one pass over them.

    Compiled functions work on a few batches side by side; those in Python stay in this thread,
    where they can be interrupted. The votes do not depend on the number of threads.

    Args:
        functions: The functions.
        batches: As for `apply_function`; held no longer than until they are labeled.
        classes: The classes, in the order of their indices.
        context: What the functions may know besides the rows.
        timeout_s: What one call of a Python function may take.
        threads: For compiled functions; as many as this process has cores, at most 8, if None.

    Raises:
        FunctionFailureError: If one returns an unknown class.
    """
    context = context or LabelingContext()
    _keep_freed_memory()
    own = [replace(context, watch=Watch(timeout_s)) for _ in functions]
    columns = [_Column(function.name) for function in functions]
    for batch, outcomes in _outcomes(functions, batches, classes, own, threads or _cores()):
        for column, outcome in zip(columns, outcomes, strict=True):
            column.add(batch, outcome)
    return [column.whole() for column in columns]


class _Column:
    """Collects the outcomes of one function."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[tuple[Votes, ClassSets]] = []
        self.failed = 0
        self.first: list[str] = []

    def add(self, batch: pa.RecordBatch, outcome: Outcome) -> None:
        self.parts.append((outcome.votes, outcome.sets))
        self.failed += len(outcome.failures)
        if len(self.first) < FIRST_FAILURES:
            for row, reason in sorted(outcome.failures.items())[: FIRST_FAILURES - len(self.first)]:
                self.first.append(f"{batch.column('row_id')[row].as_py()}: {reason}")

    def whole(self) -> VoteColumn:
        parts, sets = unite(self.parts)
        votes = np.concatenate(parts) if parts else np.zeros(0, np.int8)
        return VoteColumn(self.name, votes, self.failed, tuple(self.first), sets)


def _outcomes(
    functions: Sequence[LabelingFunction],
    batches: Iterable[pa.RecordBatch],
    classes: Sequence[str],
    contexts: Sequence[LabelingContext],
    threads: int,
) -> Iterator[tuple[pa.RecordBatch, list[Outcome]]]:
    """Yield each batch with the outcome of every function, in order."""
    waiting: deque[tuple[pa.RecordBatch, list[Outcome | Future[Outcome]]]] = deque()
    with ThreadPoolExecutor(threads, "labeling") as pool:
        for batch in batches:
            shared = Shared() if len(functions) > 1 else None
            told = [replace(context, shared=shared) for context in contexts]
            begun: list[Outcome | Future[Outcome] | None] = [
                pool.submit(f.run, batch, classes, c) if f.compiled and threads > 1 else None
                for f, c in zip(functions, told, strict=True)
            ]
            waiting.append(
                (
                    batch,
                    [
                        f.run(batch, classes, c) if done is None else done
                        for f, c, done in zip(functions, told, begun, strict=True)
                    ],
                )
            )
            if len(waiting) > threads:  # so memory holds a few batches, however many there are
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(
    batch: pa.RecordBatch, outcomes: Sequence[Outcome | Future[Outcome]]
) -> tuple[pa.RecordBatch, list[Outcome]]:
    return batch, [o.result() if isinstance(o, Future) else o for o in outcomes]


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


@cache
def _keep_freed_memory() -> None:
    """Let the memory of one batch serve the next, where the C library can be told so.

    By default it goes back to the system with every array and is cleared again for the next one,
    which took a seventh of the time of functions that look for words.
    """
    if told := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, size in (_TRIM, _MAP):
            told(parameter, size)
