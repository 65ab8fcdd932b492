"""Make the profile of one day from its rows: by column, never by row.

Structured columns, lengths, duplicates, votes and labels are counted on all rows; language, terms
and embeddings on a sample of fixed size, so a day of a million rows costs seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.monitoring.profile import SLICE_POINTS, Profile, gold_beside, smallest_ids
from fm_platform.monitoring.records import ALL
from fm_platform.monitoring.sketches import (
    CategorySketch,
    MomentSketch,
    NumericSketch,
    Sketch,
    merge,
)

ABSTAIN = -1
EMPTY = "(empty)"
"""What a missing value of a category column is counted as."""
MAX_TERMS = 5_000
LANGUAGE_CHARS = 40
"""Shorter texts say too little of their language."""
LANGUAGE_SURE = 0.9
PROJECTED = 32
"""Dimensions of the seeded random projection whose moments are kept."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Watch:
    """What to look at, and how much of it.

    Attributes:
        columns: Structured columns of the contract; they must be in the table.
        classes: Names of the classes in the order of probabilities and votes.
        functions: Names of the labeling functions in the order of `votes`.
        sample_rows: Rows of each source in the sample.
        judged_rows: Further rows of each source that people labeled, beside the sample.
        text_rows: Rows of each source whose terms are counted.
    """

    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    sample_rows: int = 384
    judged_rows: int = 512
    text_rows: int = 20_000


def measure_day(project: str, day: str, rows: pa.Table, watch: Watch) -> Profile:
    """Return the profile of one day.

    Args:
        project: Name of the project.
        day: The day, `YYYY-MM-DD`.
        rows: Columns `row_id`, `source`, and of these what there is: `text`, `text_key`, the
            structured columns, `votes` list<int8>, `label`, `confidence`, `probabilities`,
            `gold`. Other columns are carried into the sample.
        watch: What to look at.
    """
    sources = rows["source"].combine_chunks().dictionary_encode()
    codes, names = _codes(sources), [str(name) for name in sources.dictionary.to_pylist()]
    slices: dict[str, dict[str, Sketch]] = {name: {} for name in [*names, ALL]}
    for metric, column in _watched(rows, day, watch):
        for name, sketch in _by_slice(column, codes, names).items():
            slices[name][metric] = sketch
    for metric, counts in _votes(rows, watch).items():
        for name, sketch in _counted(counts, codes, names).items():
            slices[name][metric] = sketch
    if {"label", "gold"} <= set(rows.column_names):
        for name, own in _labels_right(rows).items():
            slices[name].update(own)
    held = _sampled(rows, watch)
    sample = smallest_ids(held, watch.sample_rows)
    beside = gold_beside(held, sample)
    judged = None if beside is None else smallest_ids(beside, watch.judged_rows)
    if "text" in rows.column_names:
        texts = smallest_ids(rows.select(["row_id", "source", "text"]), watch.text_rows)
        _add(slices, names, "terms:text", texts, _terms)
        _add(slices, names, "language:text", sample, _languages)
    totals = np.bincount(codes, minlength=len(names))
    counted = {name: int(total) for name, total in zip(names, totals, strict=True)}
    return Profile(
        project, (day,), {**counted, ALL: rows.num_rows}, slices, watch.classes, {}, sample, judged
    )


def with_embeddings(profile: Profile, vectors: npt.NDArray[np.float32]) -> Profile:
    """Return the profile with the embeddings of its sample: in the sample, and as moments.

    Args:
        profile: Its sample has n rows.
        vectors: float32[n, d] in the order of the sample; kept to three digits.
    """
    if profile.sample is None or not len(vectors):
        return profile
    kept = vectors.astype(np.float16).astype(np.float32)
    slices = {name: dict(metrics) for name, metrics in profile.slices.items()}
    sources = np.array(profile.sample["source"].to_pylist())
    flat = project(kept)
    parts = []
    for name in sorted(set(sources.tolist())):
        part = MomentSketch.of(flat[sources == name])
        slices[name]["embedding:text"] = part
        parts.append(part)
    slices[ALL]["embedding:text"] = merge(parts)
    column = pa.FixedSizeListArray.from_arrays(pa.array(kept.reshape(-1)), kept.shape[1])
    sample = profile.sample
    if "embedding" in sample.column_names:
        sample = sample.drop_columns(["embedding"])
    embedded = sample.append_column("embedding", column.cast(pa.list_(pa.float32())))
    return replace(profile, slices=slices, sample=embedded)


def same(said: pa.ChunkedArray, other: pa.Array, words: tuple[str, str]) -> pa.Array:
    """Return the first word where both say the same, the second where not, null for null."""
    agrees = pc.equal(said.combine_chunks().cast(pa.string()), other.cast(pa.string()))
    return pc.if_else(agrees, *words)


def sliced(
    columns: Sequence[tuple[str, pa.Array]], source: pa.ChunkedArray
) -> dict[str, dict[str, Sketch]]:
    """Return slice -> metric -> sketch of some columns; what is null does not count."""
    sources = source.combine_chunks().dictionary_encode()
    codes, names = _codes(sources), [str(name) for name in sources.dictionary.to_pylist()]
    slices: dict[str, dict[str, Sketch]] = {name: {} for name in [*names, ALL]}
    for metric, column in columns:
        for name, sketch in _by_slice(column, codes, names, skip_null=True).items():
            slices[name][metric] = sketch
    return slices


def join(profile: Profile, more: Mapping[str, Mapping[str, Sketch]]) -> Profile:
    """Return the profile with more metrics in its slices."""
    slices = {name: {**metrics, **more.get(name, {})} for name, metrics in profile.slices.items()}
    return replace(profile, slices=slices)


@lru_cache(maxsize=4)
def _directions(width: int) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(width)
    matrix = generator.normal(size=(width, min(PROJECTED, width)))
    directions: npt.NDArray[np.float32] = np.linalg.qr(matrix)[0].astype(np.float32)
    return directions


def project(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors [n, d] on the same few random directions for ever, [n, at most 32]."""
    flat: npt.NDArray[np.float32] = vectors @ _directions(vectors.shape[1])
    return flat


def structured(column: pa.ChunkedArray | pa.Array, day: str) -> pa.Array:
    """Return a column as it is compared: numbers as numbers, anything else as text.

    Dates and timestamps become days before the end of `day`, since they move on by themselves.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = whole.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros = whole.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64())
        midnight = (date.fromisoformat(day) - date(1970, 1, 1)).days + 1
        return pc.subtract(pa.scalar(float(midnight)), pc.divide(micros, 86_400_000_000.0))
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return whole.cast(pa.string())
    return whole.cast(pa.float64())


def _watched(rows: pa.Table, day: str, watch: Watch) -> list[tuple[str, pa.Array]]:
    found = [(f"column:{name}", structured(rows[name], day)) for name in sorted(watch.columns)]
    present = set(rows.column_names)
    if "text" in present:
        text = rows["text"].combine_chunks()
        words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(text)))
        found.append(("length:chars", pc.utf8_length(text).cast(pa.float64())))
        found.append(("length:words", words.cast(pa.float64())))
    if "text_key" in present:
        found.append(("duplicates:text", _repeated(rows)))
    for metric, name in (("label:weak", "label"), ("label:gold", "gold")):
        if name in present and rows[name].null_count < rows.num_rows:
            found.append((metric, rows[name].combine_chunks()))
    if "confidence" in present:
        found.append(("confidence:weak", rows["confidence"].combine_chunks().cast(pa.float64())))
    return found


def _labels_right(rows: pa.Table) -> dict[str, dict[str, Sketch]]:
    """Return `accuracy:weak` by slice: whether weak labels are what people said."""
    people = rows.select(["source", "label", "gold"]).drop_null()
    if not people.num_rows:
        return {}
    right = same(people["gold"], people["label"].combine_chunks(), ("right", "wrong"))
    return sliced([("accuracy:weak", right)], people["source"])


def _repeated(rows: pa.Table) -> pa.Array:
    """Return `repeated` for rows whose text stands more than once in their source that day."""
    keys = np.asarray(_codes(rows["text_key"].combine_chunks().dictionary_encode()), np.int64)
    codes = np.asarray(_codes(rows["source"].combine_chunks().dictionary_encode()), np.int64)
    _, spot, count = np.unique(
        codes * (int(keys.max(initial=0)) + 1) + keys, return_inverse=True, return_counts=True
    )
    return pc.if_else(pa.array(count[spot] > 1), "repeated", "once")


def _codes(array: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Return the position of each value in the dictionary; -1 for null."""
    return np.asarray(pc.fill_null(array.indices.cast(pa.int64()), -1), np.int64)


def _by_slice(
    column: pa.Array | pa.ChunkedArray,
    codes: npt.NDArray[np.int64],
    names: Sequence[str],
    skip_null: bool = False,
) -> dict[str, Sketch]:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(whole.type):
        numbers = np.asarray(pc.fill_null(whole.cast(pa.float64()), np.nan), np.float64)
        found: dict[str, Sketch] = {ALL: NumericSketch.of(numbers)}
        for i, name in enumerate(names):
            part = numbers if len(names) == 1 else numbers[codes == i]
            found[name] = NumericSketch.of(part, SLICE_POINTS)
        return found
    encoded = whole.dictionary_encode()
    values = [str(value) for value in encoded.dictionary.to_pylist()]
    positions = _codes(encoded)
    wide = len(values) + 1  # the last one counts the nulls
    spots = np.where(positions < 0, wide - 1, positions)
    table = np.bincount(codes * wide + spots, minlength=len(names) * wide).reshape(-1, wide)
    if skip_null:
        table[:, -1] = 0
    return _category_slices(table, [*values, EMPTY], names)


def _category_slices(
    table: npt.NDArray[np.int64], values: Sequence[str], names: Sequence[str]
) -> dict[str, Sketch]:
    found: dict[str, Sketch] = {}
    for name, counts in [*zip(names, table, strict=True), (ALL, table.sum(axis=0))]:
        held = {values[int(i)]: int(counts[i]) for i in np.flatnonzero(counts)}
        found[name] = CategorySketch.of(held, int(counts.sum()))
    return found


def _votes(rows: pa.Table, watch: Watch) -> dict[str, tuple[npt.NDArray[np.int64], list[str]]]:
    """Return metric -> (position of each row's value, -1 for none; the values)."""
    if "votes" not in rows.column_names or not watch.functions or not rows.num_rows:
        return {}
    flat = np.asarray(rows["votes"].combine_chunks().flatten(), np.int64)
    votes = flat.reshape(rows.num_rows, -1)
    classes = list(watch.classes)
    encoded = rows["label"].combine_chunks().dictionary_encode()
    known = [
        classes.index(str(v)) if v in classes else ABSTAIN for v in encoded.dictionary.to_pylist()
    ]
    label = np.array([*known, ABSTAIN], np.int64)[_codes(encoded)]
    found = {}
    for i, name in enumerate(watch.functions):
        vote = np.maximum(votes[:, i], ABSTAIN)
        found[f"function:{name}"] = (np.where(vote < 0, len(classes), vote), [*classes, "abstains"])
        judged = np.where((vote >= 0) & (label >= 0), (vote != label).astype(np.int64), -1)
        found[f"conflict:{name}"] = (judged, ["agrees", "conflicts"])
    return found


def _counted(
    counts: tuple[npt.NDArray[np.int64], list[str]],
    codes: npt.NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, Sketch]:
    positions, values = counts
    wide = len(values)
    held = positions >= 0
    table = np.bincount(codes[held] * wide + positions[held], minlength=len(names) * wide)
    return _category_slices(table.reshape(-1, wide), values, names)


def _sampled(rows: pa.Table, watch: Watch) -> pa.Table:
    """Return the columns that the sample keeps, of rows that no model was trained on.

    The side of a row is a hash of its id, so these are as good a sample; on rows it was trained on
    a model is surer than on those of a new day.
    """
    if "split" in rows.column_names:
        rows = rows.filter(pc.not_equal(rows["split"], "train"))
    wanted = [
        "row_id", "day", "source", "split", "text", *sorted(watch.columns),
        "votes", "label", "confidence", "probabilities", "gold",
    ]  # fmt: skip
    return rows.select([name for name in wanted if name in rows.column_names])


def _add(
    slices: dict[str, dict[str, Sketch]], names: Sequence[str], metric: str, rows: pa.Table, of: Any
) -> None:
    parts: list[Sketch] = []
    for name in names:
        texts = rows.filter(pc.equal(rows["source"], name))["text"]
        slices[name][metric] = of(texts)
        parts.append(slices[name][metric])
    if parts:
        slices[ALL][metric] = merge(parts)


def terms_of(texts: pa.ChunkedArray) -> Any:
    """Return a Polars series of lists: the different words of each text, in lower case."""
    import polars as pl

    series = pl.Series("text", texts.to_pylist(), dtype=pl.String)
    return (
        series.fill_null("").str.slice(0, 20_000).str.to_lowercase()
        .str.extract_all(r"\p{L}[\p{L}\p{M}'’]{2,30}").list.unique()
    )  # fmt: skip


def _terms(texts: pa.ChunkedArray) -> CategorySketch:
    import polars as pl

    counted = terms_of(texts).rename("term").to_frame().explode("term").drop_nulls()
    table = counted.group_by("term").agg(pl.len().alias("rows")).sort("term")
    counts = dict(zip(table["term"].to_list(), table["rows"].to_list(), strict=True))
    return CategorySketch.of(counts, len(texts), MAX_TERMS)


def _languages(texts: pa.ChunkedArray) -> CategorySketch:
    counts: dict[str, int] = {}
    for text in texts.to_pylist():
        if text is None or len(text) < LANGUAGE_CHARS:
            continue
        name = _language(text[:1_000])
        counts[name] = counts.get(name, 0) + 1
    return CategorySketch.of(counts, sum(counts.values()))


@lru_cache(maxsize=16_384)
def _language(text: str) -> str:
    """Return the language of a text; the search for causes measures the same rows many times."""
    found, confidence = _identifier().classify(text)
    return str(found) if confidence >= LANGUAGE_SURE else "unsure"


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
