"""What a labeling function is, and the decorator that makes one of a Python function.

A vote is a class index, -1 for "I do not know", or below that a set of classes (see `partial`).
That integer column is the contract between labeling functions, label models and the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any, Literal, overload

import pyarrow as pa

from fm_platform.errors import LabelingError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.definition import definition_of, text_of
from fm_platform.labeling.outcome import LabelingContext as LabelingContext
from fm_platform.labeling.outcome import Outcome as Outcome
from fm_platform.labeling.partial import ABSTAIN as ABSTAIN
from fm_platform.labeling.partial import Votes as Votes
from fm_platform.labeling.python import batch_runner, row_runner

RowFunction = Callable[[Any], "str | Collection[str] | int | None"]


@dataclass(frozen=True)
class LabelingFunction:
    """One named source of votes.

    Attributes:
        name: Unique in the project.
        kind: `python`, `batch`, or a declared kind such as `keyword` (see `declared.KINDS`).
        definition: JSON of everything that decides its votes; its hash is the fingerprint.
        run: (batch, classes, context) -> Outcome.
        needs: What it learns from beside the rows of its day and their embeddings: `gold`, the
            rows that people labeled, `votes`, those of the functions that learn nothing, or both.
        source: Its definition for people to read.
        compiled: Whether it works without Python in between, so that several threads may run it.
    """

    name: str
    kind: str
    definition: Mapping[str, Any]
    run: Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]
    needs: tuple[Literal["gold", "votes"], ...] = ()
    source: str = ""
    compiled: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the definition: comments and formatting do not count."""
        return fingerprint({"kind": self.kind, "definition": self.definition})


def told(function: LabelingFunction) -> dict[str, Any]:
    """Return what history keeps of a function under its fingerprint."""
    return {
        "name": function.name,
        "kind": function.kind,
        "needs": list(function.needs),
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
        runner = (batch_runner if batch else row_runner)(label, inner, given)
        return LabelingFunction(
            name=label,
            kind="batch" if batch else "python",
            definition=definition,
            run=runner,
            source=text_of(inner) or "",
        )

    return make if function is None else make(function)
