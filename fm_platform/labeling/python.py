"""Run the labeling functions that people write in Python: row by row, or on whole batches.

A row on which a function raises, or takes too long, is not labeled by it and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.labeling.definition import columns_used
from fm_platform.labeling.outcome import LabelingContext, Outcome
from fm_platform.labeling.partial import ABSTAIN, NO_SETS, ClassSets, Votes, encode
from fm_platform.labeling.vocabulary import Answer, members
from fm_platform.labeling.vocabulary import answers as answers_of
from fm_platform.labeling.watch import NOT_ASKED

if TYPE_CHECKING:
    import polars as pl

Runner = Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]

TIMED_OUT = "CallTimeoutError"
_SPLITS = 64
"""Pieces of a failing batch that are tried, to find the rows on which a function fails."""


def row_runner(name: str, function: FunctionType, resources: Mapping[str, Any]) -> Runner:
    """Return what asks a row function for the votes of a batch; equal rows are asked once."""
    used = columns_used(function)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        index = answers_of(classes)
        rows, places = _distinct(batch, used)
        with context.watch.set():
            told, failing = context.watch.each(function, rows, resources)
        votes, sets = votes_of_names(told, name, classes, index)
        if places is None:
            return Outcome(votes, failing, sets)
        failures = {i: failing[place] for i, place in enumerate(places) if place in failing}
        return Outcome(votes[places], failures if failing else {}, sets)

    return run


def _distinct(
    batch: pa.RecordBatch, used: frozenset[str] | None
) -> tuple[Iterable[Any], list[int] | None]:
    """Return the rows that look different to a function, and the place of each row among them.

    Equal texts are then judged once. A function that may look at all of a row (`used` is None), or
    at a column that is not there, sees every row, and the places are None.
    """
    columns = [name for name in batch.schema.names if used is None or name in used]
    values = [batch.column(name).to_pylist() for name in columns]
    rows: Iterable[tuple[Any, ...]] = (
        zip(*values, strict=True) if columns else [()] * batch.num_rows
    )
    if used is None or not used <= set(columns):
        return (SimpleNamespace(**dict(zip(columns, row, strict=True))) for row in rows), None
    look = _look(tuple(columns))
    if any(pa.types.is_nested(batch.schema.field(name).type) for name in columns):
        return map(look, rows), None
    different = dict.fromkeys(rows)
    if len(different) == batch.num_rows:
        return map(look, different), None
    place = {row: i for i, row in enumerate(different)}
    return map(look, different), [place[row] for row in zip(*values, strict=True)]


@cache
def _look(columns: tuple[str, ...]) -> type:
    """Return a class of rows for functions that read these attributes and do no more with a row.

    A tuple that knows the names of its places is made in a quarter of the time of a name space.
    """
    named = {column: property(itemgetter(i)) for i, column in enumerate(columns)}
    return type("Row", (tuple,), {"__slots__": (), **named})


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
    except (Exception, SystemExit) as error:
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
    names: Sequence[object],
    function: str,
    classes: Sequence[str],
    index: Mapping[str, Answer] | None = None,
) -> tuple[Votes, ClassSets]:
    """Return class names, or some of them, as votes; None and -1 abstain.

    Raises:
        FunctionFailureError: If a name is no class.
    """
    index = answers_of(classes) if index is None else index
    plain: dict[object, int] = {name: one for name, one in index.items() if isinstance(one, int)}
    plain[None] = ABSTAIN
    try:
        return np.fromiter(map(plain.__getitem__, names), np.int8, len(names)), NO_SETS
    except (KeyError, TypeError):  # some answer is more than the name of a class
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
