"""The kinds of labeling functions that are declared in YAML, compiled to Polars expressions."""

from __future__ import annotations

import inspect
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import FunctionFailureError, LabelingError
from fm_platform.hashing import sha256_file, sha256_hex
from fm_platform.labeling.definition import normal_code
from fm_platform.labeling.exemplars import exemplar_function
from fm_platform.labeling.functions import (
    ABSTAIN,
    LabelingContext,
    LabelingFunction,
    Outcome,
)
from fm_platform.labeling.partial import encode
from fm_platform.registry import Registry

if TYPE_CHECKING:
    import polars as pl

Compiler = Callable[[Any, Path], LabelingFunction]
KINDS: Registry[Compiler] = Registry("labeling-function kind", "fm_platform.labeling_functions")
KINDS.add("exemplars", exemplar_function)

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORD = r"[\p{L}\p{N}_']+"


def compile_declared(declared: Any, directory: Path) -> LabelingFunction:
    """Return the labeling function that one entry of the project file declares.

    The code of the kind belongs to its fingerprint, as a Python function's code does to its own.
    """
    compiler = KINDS.get(declared.kind)
    function = compiler(declared, directory)
    code = _code_of_kind(compiler.__module__)
    return replace(function, definition={**function.definition, "code": code})


@cache
def _code_of_kind(module: str) -> str:
    try:
        return sha256_hex(normal_code(inspect.getsource(sys.modules[module])).encode())
    except (OSError, TypeError) as error:
        raise LabelingError(
            "the code of a labeling-function kind cannot be read, so its changes would be missed",
            where=module,
        ) from error


def _of_condition(
    declared: Any, condition: Callable[[], pl.Expr], extra: Mapping[str, Any] | None = None
) -> LabelingFunction:
    """Return a function that votes the declared label where a condition holds; null abstains.

    Several labels are one vote for the set of them.
    """
    labels = (declared.label,) if isinstance(declared.label, str) else tuple(declared.label)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = _frame(batch, declared)
        (code,), sets = encode(
            [tuple(list(classes).index(label) for label in labels)], len(classes)
        )
        label = pl.lit(int(code), pl.Int8)
        vote = pl.when(condition()).then(label).otherwise(pl.lit(ABSTAIN, pl.Int8))
        try:
            votes = frame.select(vote.alias("vote"))["vote"].to_numpy()
        except pl.exceptions.PolarsError as error:
            raise _unfit(declared, frame, type(error).__name__) from None
        return Outcome(np.array(votes, np.int8), sets=sets)

    definition = {**declared.model_dump(mode="json", exclude={"name"}), **(extra or {})}
    return LabelingFunction(
        declared.name, declared.kind, definition, run,
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
    )  # fmt: skip


def _frame(batch: pa.RecordBatch, declared: Any) -> pl.DataFrame:
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
    text = pl.col("text").str
    measure = text.len_chars() if declared.column == "char_count" else text.count_matches(_WORD)
    return frame.select(measure.alias(declared.column))


def _unfit(declared: Any, frame: pl.DataFrame, reason: str) -> FunctionFailureError:
    return FunctionFailureError(
        f"labeling function {declared.name!r} does not fit the type of its column",
        found=f"column {declared.column} of type {frame.schema[declared.column]} ({reason})",
        next_step="declare the column with another type, or compare it with a value of its type",
    )


@KINDS.register("keyword")
def keyword(declared: Any, directory: Path) -> LabelingFunction:
    """Compile a keyword list to one automaton or regular expression."""
    words = sorted(declared.words, key=lambda word: (-len(word), word))

    def condition() -> pl.Expr:
        import polars as pl

        text = pl.col(declared.column)
        if declared.whole_words:
            flags = "" if declared.case_sensitive else "(?i)"
            alternatives = "|".join(_bounded(word) for word in words)
            return text.str.contains(f"{flags}(?:{alternatives})")
        if declared.case_sensitive:
            return text.str.contains_any(words)
        # lower case, since the automaton ignores the case of ASCII letters only
        return text.str.to_lowercase().str.contains_any([word.lower() for word in words])

    return _of_condition(declared, condition)


def _bounded(word: str) -> str:
    """A word between word borders; a border only where the word has a letter there."""
    left = r"\b" if re.match(r"\w", word) else ""
    right = r"\b" if re.search(r"\w$", word) else ""
    return f"{left}{re.escape(word)}{right}"


@KINDS.register("regex")
def regex(declared: Any, directory: Path) -> LabelingFunction:
    """Compile a regular expression."""
    import polars as pl

    pattern = declared.pattern if declared.case_sensitive else f"(?i){declared.pattern}"
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise LabelingError(
            f"labeling function {declared.name!r}: the pattern cannot be compiled",
            found=declared.pattern,
            expected="syntax of Rust's regex: no look-around, no back-references",
            where=str(error).splitlines()[0][:200],
        ) from None

    def condition() -> pl.Expr:
        return pl.col(declared.column).str.contains(pattern)

    return _of_condition(declared, condition)


@KINDS.register("lexicon")
def lexicon(declared: Any, directory: Path) -> LabelingFunction:
    """Sum word weights; vote past the thresholds."""
    extra: dict[str, Any] = {}
    weights = dict(declared.weights)
    if declared.file is not None:
        path = directory / declared.file
        weights = _read_lexicon(path, declared.name)
        extra = {"sha256": sha256_file(path)}
    # as Polars lowers the text
    known = {word.lower(): float(weight) for word, weight in weights.items()}
    endless = sorted(word for word, weight in known.items() if not math.isfinite(weight))
    if endless:
        raise LabelingError(
            f"labeling function {declared.name!r}: a weight is not a finite number",
            found=", ".join(endless[:5]),
        )

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = _frame(batch, declared)
        table = pl.DataFrame({"word": list(known), "weight": list(known.values())})
        text = pl.col(declared.column).str.to_lowercase().str.extract_all(_WORD)
        try:
            # in the order of the text: a sum of floats depends on it
            words = (
                frame.with_row_index().select("index", text.alias("word")).explode("word")
                .join(table, on="word", how="inner", maintain_order="left")
            )  # fmt: skip
        except pl.exceptions.PolarsError as error:
            raise _unfit(declared, frame, type(error).__name__) from None
        rows = words["index"].to_numpy()
        total = np.bincount(rows, weights=words["weight"].to_numpy(), minlength=batch.num_rows)
        hit = np.bincount(rows, minlength=batch.num_rows) > 0
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        votes[hit & (total > declared.upper)] = list(classes).index(declared.above)
        votes[hit & (total < declared.lower)] = list(classes).index(declared.below)
        return Outcome(votes)

    definition = {**declared.model_dump(mode="json", exclude={"name"}), **extra}
    return LabelingFunction(
        declared.name, declared.kind, definition, run, source=f"{len(known)} weighted words"
    )


def _read_lexicon(path: Path, name: str) -> dict[str, float]:
    if not path.is_file():
        raise LabelingError(f"labeling function {name!r}: the lexicon is not there", where=path)
    weights: dict[str, float] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        word, _, weight = line.partition("\t")
        try:
            weights[word] = float(weight)
        except ValueError:
            raise LabelingError(
                "a lexicon line is not a word, a tab and a number",
                where=f"{path.name}:{number}", found=line[:80],
            ) from None  # fmt: skip
    return weights


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

    return _of_condition(declared, condition)
