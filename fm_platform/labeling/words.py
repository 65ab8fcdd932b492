"""Functions that look for words: keyword lists, regular expressions, lexicons."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import LabelingError
from fm_platform.hashing import sha256_file
from fm_platform.labeling.conditions import frame_of, of_condition, unfit
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.tokens import Phrases
from fm_platform.labeling.vocabulary import answers, members

if TYPE_CHECKING:
    import polars as pl

_ONE_WORD = re.compile(r"(?:[^\W]|')+")  # a superset of `WORD`, in Python's dialect


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

    return of_condition(declared, condition)


def _bounded(word: str) -> str:
    """A word between word borders; a border only where the word has a letter there."""
    left = r"\b" if re.match(r"\w", word) else ""
    right = r"\b" if re.search(r"\w$", word) else ""
    return f"{left}{re.escape(word)}{right}"


@KINDS.register("regex")
def regex(declared: Any, directory: Path) -> LabelingFunction:
    """Compile a regular expression."""
    pattern = declared.pattern if declared.case_sensitive else f"(?i){declared.pattern}"
    if (wrong := _wrong_with(pattern)) is not None:
        raise LabelingError(
            f"labeling function {declared.name!r}: the pattern cannot be compiled",
            found=declared.pattern,
            expected="syntax of Rust's regex: no look-around, no back-references",
            where=wrong,
        )

    def condition() -> pl.Expr:
        import polars as pl

        return pl.col(declared.column).str.contains(pattern)

    return of_condition(declared, condition)


@lru_cache(maxsize=4096)  # a project is loaded for every day that it builds
def _wrong_with(pattern: str) -> str | None:
    """Return why a pattern cannot be compiled."""
    import polars as pl

    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        return str(error).splitlines()[0][:200]
    return None


@KINDS.register("lexicon")
def lexicon(declared: Any, directory: Path) -> LabelingFunction:
    """Sum word weights; vote past the thresholds."""
    import polars as pl

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

    # a word that is no word in a text, such as an emoticon, is nowhere
    listed = [word for word in sorted(known) if _ONE_WORD.fullmatch(word)]
    weighted = np.array([known[word] for word in listed], np.float64)
    phrases = cache(lambda: Phrases(listed))  # once it votes: most days it is only looked at

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        frame = frame_of(batch, declared, context)
        if frame.schema[declared.column] != pl.String:
            raise unfit(declared, frame, "no text")
        # in the order of the text: a sum of floats depends on it
        rows, found = phrases().find(context.tokens(frame[declared.column]))
        total = np.bincount(rows, weights=weighted[found], minlength=batch.num_rows)
        hit = np.bincount(rows, minlength=batch.num_rows) > 0
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        index = answers(classes)
        said = [members(index, declared.above), members(index, declared.below)]
        (above, below), sets = encode(said, len(classes))
        votes[hit & (total > declared.upper)] = above
        votes[hit & (total < declared.lower)] = below
        return Outcome(votes, sets=sets)

    definition = {**declared.model_dump(mode="json", exclude={"name"}), **extra}
    return LabelingFunction(
        declared.name, declared.kind, definition, run,
        source=f"{len(known)} weighted words", compiled=True,
    )  # fmt: skip


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
