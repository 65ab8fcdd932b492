"""Distant supervision: what a table of known things says of the rows that mention them.

Mintz et al., "Distant supervision for relation extraction without labeled data", ACL 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import LabelingError
from fm_platform.hashing import sha256_file
from fm_platform.labeling.conditions import frame_of, unfit
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.tokens import Phrases
from fm_platform.labeling.vocabulary import answers, members

if TYPE_CHECKING:
    import polars as pl

Ints = npt.NDArray[np.int64]
Said = tuple[Ints, Ints]

_READERS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}


@KINDS.register("lookup")
def lookup(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that a `lookup` entry declares.

    Raises:
        LabelingError: If the table is not there, of another form, or lacks a column.
    """
    path = directory / declared.table
    table = _read(path, declared)
    known = _known(table, declared)
    keys = known["key"].unique().sort()
    phrases = cache(lambda: Phrases(keys.to_list()))  # once it votes

    cached: dict[str, tuple[pl.DataFrame, Said]] = {}

    def things_of(classes: Sequence[str]) -> tuple[pl.DataFrame, Said]:
        meaning = repr(answers(classes))
        if meaning not in cached:
            things = _of_classes(known, classes, declared)
            cached[meaning] = things, _said(things, keys)
        return cached[meaning]

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = frame_of(batch, declared, context)
        things, said = things_of(classes)
        try:
            if declared.match == "words":
                rows, places = phrases().find(context.tokens(frame[declared.column]))
                pairs = np.unique(rows * len(keys) + places)  # each thing counts once a row
                rows, labels = _labels(*np.divmod(pairs, max(len(keys), 1)), said)
            else:
                key = pl.col(declared.column).cast(pl.String).alias("key")
                named = frame.select(key).with_row_index("row")
                found = named.join(things, on="key", how="inner")
                rows, labels = found["row"].to_numpy().astype(np.int64), found["label"].to_numpy()
        except pl.exceptions.PolarsError as error:
            raise unfit(declared, frame, type(error).__name__) from None
        return _outcome(rows, labels, batch.num_rows, len(classes))

    definition = {
        **declared.model_dump(mode="json", exclude={"name"}), "sha256": sha256_file(path),
    }  # fmt: skip
    return LabelingFunction(
        declared.name, declared.kind, definition, run,
        source=f"{declared.table}: {len(known)} things by {declared.key_column}", compiled=True,
    )  # fmt: skip


def _read(path: Path, declared: Any) -> pl.DataFrame:
    import polars as pl

    form = _READERS.get(path.suffix.lower())
    if form is None or not path.is_file():
        raise LabelingError(
            f"labeling function {declared.name!r}: the table cannot be read",
            where=path,
            expected="a file ending in " + ", ".join(_READERS),
            found="another ending" if path.is_file() else "no such file",
        )
    try:
        if form == "parquet":
            return pl.read_parquet(path)
        if form == "jsonl":
            return pl.read_ndjson(path)
        # as text: 007 is a name
        return pl.read_csv(path, separator="\t" if form == "tsv" else ",", infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise LabelingError(
            f"labeling function {declared.name!r}: the table is damaged",
            where=path,
            found=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
        ) from None


def _known(table: pl.DataFrame, declared: Any) -> pl.DataFrame:
    """Return the things: `key`, and `says`, what the table says of it."""
    import polars as pl

    missing = sorted({declared.key_column, declared.label_column} - set(table.columns))
    if missing:
        raise LabelingError(
            f"labeling function {declared.name!r}: the table lacks a column",
            where=declared.table,
            expected=", ".join(missing),
            found=", ".join(table.columns),
        )
    key = pl.col(declared.key_column).cast(pl.String)
    known = table.select(
        key.alias("key"), pl.col(declared.label_column).cast(pl.String).alias("says")
    )
    return known.drop_nulls().filter(pl.col("key").str.strip_chars() != "").unique().sort("key")


def _of_classes(known: pl.DataFrame, classes: Sequence[str], declared: Any) -> pl.DataFrame:
    """Return `key` and `label`, the index of its class, of the things that are of a class."""
    import polars as pl

    index = answers(classes)
    meaning = {**{name: name for name in index}, **declared.values}
    # a class that was split is each of its parts: equally frequent, so a set of them
    pairs = [(said, i) for said, name in meaning.items() for i in members(index, name)]
    labels = pl.DataFrame(pairs, schema={"says": pl.String, "label": pl.Int64}, orient="row")
    found = known.join(labels, on="says", how="inner").select("key", pl.col("label").cast(pl.Int64))
    if found.is_empty():
        raise LabelingError(
            f"labeling function {declared.name!r}: no thing of the table is of a class",
            where=declared.table,
            expected=f"values of {declared.label_column}: {', '.join(meaning)}",
            found=", ".join(known["says"].unique().sort().head(5).to_list()),
            next_step="say under `values` which class a value means",
        )
    return found.unique().sort("key", "label")


def _said(things: pl.DataFrame, keys: pl.Series) -> Said:
    """Return where the labels of each key begin, and the labels: those of keys in their order."""
    place = keys.search_sorted(things["key"]).to_numpy().astype(np.int64)
    begins = np.searchsorted(place, np.arange(len(keys) + 1))  # `things` is sorted by key
    return begins.astype(np.int64), things["label"].to_numpy().astype(np.int64)


def _labels(rows: Ints, places: Ints, said: Said) -> tuple[Ints, Ints]:
    """Return each row with each label of each key that is named there."""
    begins, labels = said
    many = begins[places + 1] - begins[places]
    first = np.repeat(begins[places] - np.cumsum(many) + many, many)
    return np.repeat(rows, many), labels[first + np.arange(len(first))]


def _outcome(found: Ints, labels: Ints, rows: int, classes: int) -> Outcome:
    """Return the most frequent class of each row; equally frequent ones are a set."""
    counts: Ints = np.bincount(found * classes + labels, minlength=rows * classes).reshape(
        rows, classes
    )
    most = counts.max(axis=1, initial=0)
    best = (counts == most[:, None]) & (most > 0)[:, None]
    votes = np.where(most > 0, best.argmax(axis=1), ABSTAIN).astype(np.int8)
    several = np.flatnonzero(best.sum(axis=1) > 1)
    if not len(several):
        return Outcome(votes)
    patterns, place = np.unique(best[several], axis=0, return_inverse=True)
    codes, sets = encode([tuple(np.flatnonzero(p).tolist()) for p in patterns], classes)
    votes[several] = codes[place.reshape(-1)]
    return Outcome(votes, sets=sets)
