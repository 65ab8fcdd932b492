"""Run the labeling functions that people write in Python: row by row, or on whole batches.

A row on which a function raises, or takes too long, is not labeled by it and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.labeling.definition import columns_used
from fm_platform.labeling.outcome import LabelingContext, Outcome
from fm_platform.labeling.partial import ABSTAIN, ClassSets, Votes, encode
from fm_platform.labeling.vocabulary import Answer, members
from fm_platform.labeling.vocabulary import answers as answers_of

if TYPE_CHECKING:
    import polars as pl

Runner = Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]

TIMED_OUT, NOT_ASKED = "CallTimeoutError", "not asked: too many calls before took too long"
_SPLITS = 64
"""Pieces of a failing batch that are tried, to find the rows on which a function fails."""


def row_runner(name: str, function: FunctionType, resources: Mapping[str, Any]) -> Runner:
    """Return what asks a row function for the votes of a batch; equal rows are asked once."""
    used = columns_used(function)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        several: dict[int, tuple[int, ...]] = {}
        failures: dict[int, str] = {}
        index = answers_of(classes)
        watch = context.watch
        with watch.set():
            for rows, values in _distinct(batch, used):
                if watch.lost:
                    failures.update(dict.fromkeys(rows, NOT_ASKED))
                    continue
                try:
                    answer = watch.call(function, SimpleNamespace(**values), **resources)
                except Exception as error:  # a row must not stop a day: it abstains, counted
                    failures.update(dict.fromkeys(rows, type(error).__name__))
                    continue
                if answer is None:
                    continue
                vote = _vote(answer, name, index)
                if isinstance(vote, int):
                    votes[rows] = vote
                else:
                    several.update(dict.fromkeys(rows, vote))
        if not several:
            return Outcome(votes, failures)
        answers: list[Answer] = [several.get(i, vote) for i, vote in enumerate(votes.tolist())]
        votes, sets = encode(answers, len(classes))
        return Outcome(votes, failures, sets)

    return run


def _distinct(
    batch: pa.RecordBatch, used: frozenset[str] | None
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yield (positions, values) of rows that look the same to a function.

    Equal texts are then judged once. A function that may look at all of a row (`used` is None)
    sees every row.
    """
    columns = [name for name in batch.schema.names if used is None or name in used]
    values = [batch.column(name).to_pylist() for name in columns]
    rows: Iterator[tuple[Any, ...]] = zip(*values, strict=True) if columns else iter(
        [()] * batch.num_rows
    )  # fmt: skip
    nested = any(pa.types.is_nested(batch.schema.field(name).type) for name in columns)
    if used is None or nested:
        for i, row in enumerate(rows):
            yield [i], dict(zip(columns, row, strict=True))
        return
    same: dict[tuple[Any, ...], list[int]] = {}
    for i, row in enumerate(rows):
        same.setdefault(row, []).append(i)
    for row, positions in same.items():
        yield positions, dict(zip(columns, row, strict=True))


def batch_runner(name: str, function: FunctionType, resources: Mapping[str, Any]) -> Runner:
    """Return what asks a batch function for votes.

    A batch on which it raises is asked again by halves, so that the others keep their votes; a
    batch that takes too long is not.
    """

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        answers: list[object] = [None] * len(frame)
        failures: dict[int, str] = {}
        todo, tries = [(0, frame)], _SPLITS
        with context.watch.set():
            while todo:
                start, piece = todo.pop()
                reason, answer = _asked(function, piece, resources, context)
                if reason is None:
                    _fits(name, answer, len(piece))
                    if len(piece) == len(frame):
                        votes, sets = _of_series(answer, name, classes)
                        return Outcome(votes, sets=sets)
                    answers[start : start + len(piece)] = answer.to_list()
                elif len(piece) > 1 and tries and reason not in (TIMED_OUT, NOT_ASKED):
                    half, tries = len(piece) // 2, tries - 1
                    todo += [(start + half, piece[half:]), (start, piece[:half])]
                else:
                    failures.update(dict.fromkeys(range(start, start + len(piece)), reason))
        votes, sets = votes_of_names(answers, name, classes)
        return Outcome(votes, failures, sets)

    return run


def _asked(
    function: FunctionType,
    frame: pl.DataFrame,
    resources: Mapping[str, Any],
    context: LabelingContext,
) -> tuple[str | None, Any]:
    """Return why a batch function fails on some rows, or None and its answer."""
    import polars as pl

    if context.watch.lost:
        return NOT_ASKED, None
    try:
        answer = context.watch.call(function, frame, **resources)
        if isinstance(answer, pl.Expr):  # a literal is meant for every row
            return None, frame.with_columns(answer.alias("vote"))["vote"]
        return None, pl.Series([] if answer is None else answer)
    except Exception as error:
        return type(error).__name__, None


def _fits(name: str, answer: pl.Series, rows: int) -> None:
    if len(answer) != rows:
        raise FunctionFailureError(
            f"labeling function {name!r} did not answer every row",
            expected=f"{rows} answers, null to abstain",
            found=f"{type(answer).__name__} of {len(answer)}",
        )


def _of_series(
    answers: pl.Series, function: str, classes: Sequence[str]
) -> tuple[Votes, ClassSets]:
    """Return a series of answers as votes; each different name is looked at once."""
    import polars as pl

    if answers.dtype != pl.String:
        return votes_of_names(answers.to_list(), function, classes)
    names = answers.unique().drop_nulls().sort()
    votes, sets = votes_of_names(names.to_list(), function, classes)
    coded = answers.replace_strict(names, pl.Series(votes), default=None, return_dtype=pl.Int8)
    return coded.fill_null(ABSTAIN).to_numpy().astype(np.int8), sets


def votes_of_names(
    names: Sequence[object], function: str, classes: Sequence[str]
) -> tuple[Votes, ClassSets]:
    """Return class names, or some of them, as votes; None and -1 abstain.

    Raises:
        FunctionFailureError: If a name is no class.
    """
    index = answers_of(classes)
    return encode([_vote(label, function, index) for label in names], len(classes))


def _vote(answer: object, function: str, index: Mapping[str, Answer]) -> Answer:
    if answer is None:
        return ABSTAIN
    if isinstance(answer, str) and answer in index:
        return index[answer]
    if isinstance(answer, (list, tuple, set, frozenset)) and all(
        isinstance(name, str) and name in index for name in answer
    ):
        return members(index, answer)
    if isinstance(answer, (int, np.integer)) and not isinstance(answer, bool) and (
        answer == ABSTAIN
    ):  # fmt: skip
        return ABSTAIN
    raise FunctionFailureError(
        f"labeling function {function!r} returned an unknown class",
        expected=f"{', '.join(index)}, several of them, or None to abstain",
        found=repr(answer)[:80],
        next_step="mend the function, or add the class to the taxonomy",
    )
