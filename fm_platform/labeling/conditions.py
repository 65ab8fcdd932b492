"""What the compiled kinds of labeling functions share: a column of a batch, a condition on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.partial import encode
from fm_platform.labeling.vocabulary import answers, members

if TYPE_CHECKING:
    import polars as pl


def of_condition(
    declared: Any, condition: Callable[[], pl.Expr], extra: Mapping[str, Any] | None = None
) -> LabelingFunction:
    """Return a function that votes the declared label where a condition holds; null abstains.

    Several labels are one vote for the set of them.
    """
    labels = (declared.label,) if isinstance(declared.label, str) else tuple(declared.label)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = frame_of(batch, declared, context)
        (code,), sets = encode([members(answers(classes), labels)], len(classes))
        label = pl.lit(int(code), pl.Int8)
        vote = pl.when(condition()).then(label).otherwise(pl.lit(ABSTAIN, pl.Int8))
        try:
            votes = frame.select(vote.alias("vote"))["vote"].to_numpy()
        except pl.exceptions.PolarsError as error:
            raise unfit(declared, frame, type(error).__name__) from None
        return Outcome(np.array(votes, np.int8), sets=sets)

    definition = {**declared.model_dump(mode="json", exclude={"name"}), **(extra or {})}
    return LabelingFunction(
        declared.name, declared.kind, definition, run,
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
        compiled=True,
    )  # fmt: skip


def frame_of(batch: pa.RecordBatch, declared: Any, context: LabelingContext) -> pl.DataFrame:
    """Return the column that a function looks at, measured from the text where it is a measure."""
    import polars as pl

    measured = declared.column in ("char_count", "word_count")
    source = "text" if measured and declared.column not in batch.schema.names else declared.column
    if source not in batch.schema.names:
        raise FunctionFailureError(
            f"labeling function {declared.name!r} looks at a column that the rows do not have",
            expected=", ".join([*batch.schema.names, "char_count", "word_count"]),
            found=declared.column,
        )
    frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch.select([source])])))
    if source == declared.column:
        return frame
    if declared.column == "char_count":
        return frame.select(pl.col("text").str.len_chars().alias(declared.column))
    counts = pl.Series(declared.column, context.tokens(frame["text"]).counts())
    missing = frame["text"].is_null()
    return (counts.set(missing, None) if missing.any() else counts).to_frame()


def unfit(declared: Any, frame: pl.DataFrame, reason: str) -> FunctionFailureError:
    """Return the error for a column of a type that a function cannot look at."""
    return FunctionFailureError(
        f"labeling function {declared.name!r} does not fit the type of its column",
        found=f"column {declared.column} of type {frame.schema[declared.column]} ({reason})",
        next_step="declare the column with another type, or compare it with a value of its type",
    )
