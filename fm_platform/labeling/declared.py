"""The kinds of labeling functions that are declared in YAML, compiled to Polars expressions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import FunctionFailureError, LabelingError
from fm_platform.hashing import sha256_file
from fm_platform.labeling.exemplars import exemplar_function
from fm_platform.labeling.functions import (
    ABSTAIN,
    LabelingContext,
    LabelingFunction,
    Outcome,
    votes_of_names,
)
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
    """Return the labeling function that one entry of the project file declares."""
    return KINDS.get(declared.kind)(declared, directory)


def _of_expression(
    declared: Any,
    expression: Callable[[pl.DataFrame], pl.Expr],
    extra: dict[str, Any] | None = None,
) -> LabelingFunction:
    """Return a function whose votes are an expression of class names, null where it abstains."""

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        column = getattr(declared, "column", "text")
        frame = _with_measures(frame, column)
        names = frame.select(expression(frame).alias("vote"))["vote"].to_list()
        return Outcome(votes_of_names(names, declared.name, classes))

    definition = declared.model_dump(mode="json", exclude={"name"})
    return LabelingFunction(
        declared.name, declared.kind, definition, run,
        source="\n".join(f"{key}: {value}" for key, value in definition.items()),
    )  # fmt: skip


def _with_measures(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    import polars as pl

    if column == "char_count":
        return frame.with_columns(pl.col("text").str.len_chars().alias("char_count"))
    if column == "word_count":
        return frame.with_columns(pl.col("text").str.count_matches(_WORD).alias("word_count"))
    if column not in frame.columns:
        raise FunctionFailureError(
            "a labeling function looks at a column that the rows do not have",
            expected=", ".join([*frame.columns, "char_count", "word_count"]),
            found=column,
        )
    return frame


@KINDS.register("keyword")
def keyword(declared: Any, directory: Path) -> LabelingFunction:
    """Compile a keyword list to one automaton or regular expression."""
    words = sorted(declared.words, key=lambda word: (-len(word), word))

    def expression(frame: pl.DataFrame) -> pl.Expr:
        import polars as pl

        text = pl.col(declared.column)
        if declared.whole_words:
            flags = "" if declared.case_sensitive else "(?i)"
            alternatives = "|".join(_bounded(word) for word in words)
            hit = text.str.contains(f"{flags}(?:{alternatives})")
        else:
            hit = text.str.contains_any(words, ascii_case_insensitive=not declared.case_sensitive)
        return pl.when(hit).then(pl.lit(declared.label))

    return _of_expression(declared, expression)


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

    def expression(frame: pl.DataFrame) -> pl.Expr:
        return pl.when(pl.col(declared.column).str.contains(pattern)).then(pl.lit(declared.label))

    return _of_expression(declared, expression)


@KINDS.register("lexicon")
def lexicon(declared: Any, directory: Path) -> LabelingFunction:
    """Sum word weights; vote past the thresholds."""
    weights, extra = dict(declared.weights), {}
    if declared.file is not None:
        path = directory / declared.file
        if not path.is_file():
            raise LabelingError(
                f"labeling function {declared.name!r}: the lexicon is not there", where=path
            )
        weights = {}
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            word, _, weight = line.partition("\t")
            try:
                weights[word.casefold()] = float(weight)
            except ValueError:
                raise LabelingError(
                    "a lexicon line is not a word, a tab and a number",
                    where=f"{path.name}:{number}", found=line[:80],
                ) from None  # fmt: skip
        extra = {"sha256": sha256_file(path)}
    known = {word.casefold(): weight for word, weight in weights.items()}

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = pl.DataFrame({"text": pl.Series(batch.column(declared.column).to_pylist())})
        words = frame.with_row_index().select(
            "index", pl.col("text").str.to_lowercase().str.extract_all(_WORD).alias("word")
        )
        table = pl.DataFrame({"word": list(known), "weight": [float(v) for v in known.values()]})
        sums = (
            words.explode("word").join(table, on="word", how="inner")
            .group_by("index").agg(pl.col("weight").sum())
        )  # fmt: skip
        total = np.zeros(batch.num_rows)
        hit = np.zeros(batch.num_rows, bool)
        total[sums["index"].to_numpy()] = sums["weight"].to_numpy()
        hit[sums["index"].to_numpy()] = True
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        votes[hit & (total > declared.upper)] = list(classes).index(declared.above)
        votes[hit & (total < declared.lower)] = list(classes).index(declared.below)
        return Outcome(votes)

    definition = {**declared.model_dump(mode="json", exclude={"name"}), **extra}
    return LabelingFunction(
        declared.name, declared.kind, definition, run, source=f"{len(known)} weighted words"
    )


@KINDS.register("rule")
def rule(declared: Any, directory: Path) -> LabelingFunction:
    """Compare a column with a value."""

    def expression(frame: pl.DataFrame) -> pl.Expr:
        import polars as pl

        column = pl.col(declared.column)
        value = declared.value
        if declared.operator == "in":
            listed = list(value) if isinstance(value, tuple) else [value]
            return pl.when(column.is_in(listed)).then(pl.lit(declared.label))
        compare = _OPERATORS[declared.operator]
        return pl.when(compare(column, value)).then(pl.lit(declared.label))

    return _of_expression(declared, expression)
