"""What a labeling function is, and the decorator that makes one of a Python function.

A vote is a class index, -1 for "I do not know", or below that a set of classes (see `partial`).
That integer column is the contract between labeling functions, label models and the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType, SimpleNamespace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import FunctionFailureError, LabelingError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.definition import columns_used, definition_of, text_of
from fm_platform.labeling.partial import ABSTAIN as ABSTAIN
from fm_platform.labeling.partial import NO_SETS, ClassSets, encode
from fm_platform.labeling.partial import Votes as Votes

Row = SimpleNamespace
Answer = int | tuple[int, ...]
RowFunction = Callable[[Any], "str | Collection[str] | int | None"]


@dataclass(frozen=True)
class LabelingContext:
    """What an exemplar function may know besides the rows. Empty for all others.

    Attributes:
        row_embeddings: float32[n, d], frozen mean-pooled embeddings of the rows.
        row_votes: int8[n, m], votes of the plain functions.
        row_sources / row_ids: n names.
        exemplar_*: The same for the e exemplars, and `exemplar_labels` int64[e].
    """

    row_embeddings: npt.NDArray[np.float32] | None = None
    row_votes: Votes | None = None
    row_sources: Sequence[str] = ()
    row_ids: Sequence[str] = ()
    exemplar_embeddings: npt.NDArray[np.float32] | None = None
    exemplar_votes: Votes | None = None
    exemplar_sources: Sequence[str] = ()
    exemplar_ids: Sequence[str] = ()
    exemplar_labels: npt.NDArray[np.int64] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Votes of one batch, and the rows on which the function failed (they abstain).

    `sets` tells which classes the votes below -1 leave open.
    """

    votes: Votes
    failures: Mapping[int, str] = field(default_factory=dict)
    sets: ClassSets = NO_SETS


@dataclass(frozen=True)
class LabelingFunction:
    """One named source of votes.

    Attributes:
        name: Unique in the project.
        kind: `python`, `batch`, `keyword`, `regex`, `lexicon`, `rule`, `exemplars`.
        definition: JSON of everything that decides its votes; its hash is the fingerprint.
        run: (batch, classes, context) -> Outcome.
        needs: `rows`, or `exemplars` for functions that see embeddings and exemplars.
        source: Its definition for people to read.
    """

    name: str
    kind: str
    definition: Mapping[str, Any]
    run: Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]
    needs: Literal["rows", "exemplars"] = "rows"
    source: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the definition: comments and formatting do not count."""
        return fingerprint({"kind": self.kind, "definition": self.definition})


def told(function: LabelingFunction) -> dict[str, str]:
    """Return what history keeps of a function under its fingerprint."""
    return {
        "name": function.name,
        "kind": function.kind,
        "needs": function.needs,
        "fingerprint": function.fingerprint,
        "source": function.source,
    }


@overload
def labeling_function(function: RowFunction) -> LabelingFunction: ...
@overload
def labeling_function(
    *, name: str | None = None, batch: bool = False, resources: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Any]], LabelingFunction]: ...
def labeling_function(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    batch: bool = False,
    resources: Mapping[str, Any] | None = None,
) -> Any:
    """Make a labeling function of a Python function.

    A row function gets a row whose columns are attributes (`row.text`, `row.source`, …) and
    returns a class name, None to abstain, or several class names of which one is right. With
    `batch=True` it gets a `polars.DataFrame` and returns a series or expression of class names or
    lists of them, null where it abstains.

    Args:
        function: The function, when used without parentheses.
        name: Its name; that of the function without it.
        batch: Whether it takes whole batches.
        resources: Values that it uses; they are given as keyword arguments and belong to the
            fingerprint. Word lists belong here.

    Raises:
        LabelingError: If it is no Python function, or a resource cannot be hashed.
    """

    def make(inner: Callable[..., Any]) -> LabelingFunction:
        if not isinstance(inner, FunctionType):
            raise LabelingError(
                "labeling_function decorates Python functions",
                found=type(inner).__name__,
                next_step="wrap it in a function that calls it",
            )
        label = name or inner.__name__
        given = dict(resources or {})
        definition = definition_of(inner, given)
        runner = _batch_runner(label, inner, given) if batch else _row_runner(label, inner, given)
        return LabelingFunction(
            name=label,
            kind="batch" if batch else "python",
            definition=definition,
            run=runner,
            source=text_of(inner) or "",
        )

    return make if function is None else make(function)


def _row_runner(
    name: str, function: FunctionType, resources: Mapping[str, Any]
) -> Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]:
    used = columns_used(function)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        answers: list[Answer] = [ABSTAIN] * batch.num_rows
        failures: dict[int, str] = {}
        index = {label: i for i, label in enumerate(classes)}
        for rows, values in _distinct(batch, used):
            try:
                vote = _vote(function(SimpleNamespace(**values), **resources), name, index)
            except FunctionFailureError:
                raise
            except Exception as error:  # a row must not stop a day: it abstains and is counted
                failures.update(dict.fromkeys(rows, type(error).__name__))
            else:
                for row in rows:
                    answers[row] = vote
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


def _batch_runner(
    name: str, function: FunctionType, resources: Mapping[str, Any]
) -> Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]:
    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        try:
            answer = function(frame, **resources)
            if isinstance(answer, pl.Expr):  # a literal is meant for every row
                series = frame.with_columns(answer.alias("vote"))["vote"]
            else:
                series = pl.Series([] if answer is None else answer)
        except Exception as error:  # the batch abstains and is counted
            reason = type(error).__name__
            return Outcome(
                np.full(batch.num_rows, ABSTAIN, np.int8), dict.fromkeys(range(len(frame)), reason)
            )
        if len(series) != batch.num_rows:
            raise FunctionFailureError(
                f"labeling function {name!r} did not answer every row",
                expected=f"{batch.num_rows} answers, null to abstain",
                found=f"{type(answer).__name__} of {len(series)}",
            )
        votes, sets = votes_of_names(series.to_list(), name, classes)
        return Outcome(votes, sets=sets)

    return run


def votes_of_names(
    names: Sequence[object], function: str, classes: Sequence[str]
) -> tuple[Votes, ClassSets]:
    """Return class names, or some of them, as votes; None and -1 abstain.

    Raises:
        FunctionFailureError: If a name is no class.
    """
    index = {label: i for i, label in enumerate(classes)}
    return encode([_vote(label, function, index) for label in names], len(classes))


def _vote(answer: object, function: str, index: Mapping[str, int]) -> Answer:
    if answer is None:
        return ABSTAIN
    if isinstance(answer, str) and answer in index:
        return index[answer]
    if isinstance(answer, (list, tuple, set, frozenset)) and all(
        isinstance(name, str) and name in index for name in answer
    ):
        return tuple(sorted(index[name] for name in answer))
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
