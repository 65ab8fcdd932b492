"""The contract of raw rows: types, ranges, domains, nullability, checked a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import ContractError
from fm_platform.hashing import sha256_hex
from fm_platform.spec.models import Column, Contract

BEFORE_CHARS = 2_000
PROBLEM = "problem"
"""What the reader of a row found wrong with it, as JSON; the name that connectors use as well."""

_GRACE_DAYS = 1  # a row of today may carry tomorrow's date of another time zone
_ISO_DATE = r"^\d{4}-\d{2}-\d{2}($|[T ])"
_ISO_TIME = r"^\d{4}-\d{2}-\d{2}($|[T ]\d{2}:\d{2})"
ARROW_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


@dataclass(frozen=True)
class Rejection:
    """Why one row of a batch breaks the contract.

    Attributes:
        row: Position in the batch.
        rule: `type`, `null`, `range`, `domain`, `pattern`, `length`, `control`, `future`, or what
            the reader of the row found: `format`, `cells`, `encoding`, `date`.
        column: The column at fault; None for the row as a whole.
        reason: What was expected, in words.
        before: The value, cut to 2,000 characters.
    """

    row: int
    rule: str
    column: str | None
    reason: str
    before: str | None


def check_batch(
    batch: pa.RecordBatch, contract: Contract, day: str | None = None
) -> tuple[pa.RecordBatch, list[Rejection]]:
    """Return the batch with its columns typed, and the first violation of each wrong row.

    Rows at fault stay in the returned batch (with nulls where the type was wrong): the caller
    splits by `Rejection.row`, so that ids are made for all rows alike.

    Args:
        batch: Rows; declared columns as text or already typed; `problem` if the reader of a row
            found damage.
        contract: What is declared.
        day: Day of the rows, YYYY-MM-DD: dates may not lie later than one day after it.

    Raises:
        ContractError: If a declared column that may not be null is missing altogether.
    """
    columns: dict[str, pa.Array] = {}
    found = _damaged_rows(batch)
    for name in sorted(contract.columns, key=lambda n: (n != "text", n)):
        declared = contract.columns[name]
        if name not in batch.schema.names:
            if declared.nullable:
                columns[name] = pa.nulls(batch.num_rows, ARROW_TYPES[declared.type])
                continue
            raise ContractError(
                f"the declared column {name!r} did not come",
                expected=", ".join(sorted(contract.columns)),
                found=", ".join(batch.schema.names),
                next_step="mend the source, or declare the column nullable",
            )
        came = batch.column(name)
        columns[name] = typed_column(came, declared.type)
        for mask, rule, reason in _violations(came, columns[name], declared, day):
            for row in np.flatnonzero(mask).tolist():
                if row not in found:
                    before = shortened(came[row].as_py())
                    found[row] = Rejection(row, rule, name, reason, before)
    extra = {
        name: batch.column(name) for name in batch.schema.names
        if name not in contract.columns and name != PROBLEM
    }  # fmt: skip
    checked = pa.record_batch({**columns, **extra})
    return checked, [found[row] for row in sorted(found)]


def _damaged_rows(batch: pa.RecordBatch) -> dict[int, Rejection]:
    if PROBLEM not in batch.schema.names:
        return {}
    notes = batch.column(PROBLEM)
    found = {}
    for row in np.flatnonzero(_mask(notes.is_valid())).tolist():
        note = json.loads(notes[row].as_py())
        before = shortened(note["before"])
        found[row] = Rejection(row, note["rule"], note["column"], note["reason"], before)
    return found


def typed_column(values: pa.Array, kind: str) -> pa.Array:
    """Return a column as a declared type; null where a value does not have it.

    Text is trimmed; a timestamp with an offset becomes UTC, one without is taken as it stands.
    """
    wanted = ARROW_TYPES[kind]
    if values.type == wanted:
        return _finite(values)
    if pa.types.is_dictionary(values.type):
        return typed_column(values.dictionary_decode(), kind)
    if pa.types.is_nested(values.type):
        return pa.nulls(len(values), wanted)
    if not _is_text(values.type):
        try:
            return _finite(values.cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    try:
        text = values.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are not UTF-8
        return pa.nulls(len(values), wanted)
    return text.cast(wanted) if kind == "string" else _parsed(text, kind).cast(wanted)


def _parsed(text: pa.Array, kind: str) -> pa.Array:
    import polars as pl

    series = pl.Series(text).str.strip_chars()
    if kind == "boolean":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        series = series.str.to_lowercase().replace_strict(
            words, default=None, return_dtype=pl.Boolean
        )
    elif kind == "date":
        series = _only(series, _ISO_DATE).str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    elif kind == "timestamp":
        series = _timestamps(series)
    elif kind == "integer":
        series = series.cast(pl.Int64, strict=False)
    else:
        series = series.cast(pl.Float64, strict=False)
    return _finite(pa.array(series.to_arrow()))


def _timestamps(series: Any) -> Any:
    """Return ISO 8601 texts as UTC microseconds: date alone, to the minute, second or finer."""
    import polars as pl

    text = _only(series, _ISO_TIME).str.replace(" ", "T")
    found = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    for written in ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"):
        found = found.fill_null(text.str.to_datetime(written, strict=False, time_unit="us"))
        zoned = text.str.to_datetime(f"{written}%#z", strict=False, time_unit="us")
        found = found.fill_null(zoned.dt.replace_time_zone(None))
    return found


def _only(series: Any, pattern: str) -> Any:
    import polars as pl

    fits = series.str.contains(pattern).fill_null(False)
    return pl.select(pl.when(fits).then(series)).to_series()


def _finite(values: pa.Array) -> pa.Array:
    """Return numbers with null for NaN and infinity, which no range can hold."""
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))


Violation = tuple[npt.NDArray[np.bool_], str, str]


def _violations(
    came: pa.Array, values: pa.Array, declared: Column, day: str | None
) -> Iterator[Violation]:
    """Yield masks of wrong rows with rule and reason, the gravest first."""
    was_null = _mask(came.is_null())
    yield _mask(values.is_null()) & ~was_null, "type", f"not {_article(declared.type)}"
    if not declared.nullable:
        yield was_null, "null", "no value where one is required"
    if declared.type == "string":
        yield from _text_violations(values, declared)
    elif declared.type in ("date", "timestamp"):
        if day is not None and not declared.future:
            last = pa.scalar(date.fromisoformat(day) + timedelta(days=_GRACE_DAYS), pa.date32())
            late = pc.greater(values.cast(pa.date32(), safe=False), last)
            yield _mask(late), "future", f"lies after the day of the row, {day}"
    else:
        yield from _range_violations(values, declared)


def _range_violations(values: pa.Array, declared: Column) -> Iterator[Violation]:
    if declared.minimum is not None:
        yield _mask(pc.less(values, declared.minimum)), "range", f"less than {declared.minimum:g}"
    if declared.maximum is not None:
        more = _mask(pc.greater(values, declared.maximum))
        yield more, "range", f"more than {declared.maximum:g}"


def _text_violations(values: pa.Array, declared: Column) -> Iterator[Violation]:
    yield _mask(pc.match_substring(values, "\0")), "control", "holds a NUL character"
    present = _mask(values.is_valid())
    if declared.allowed is not None:
        inside = _mask(pc.is_in(values, value_set=pa.array(declared.allowed)))
        yield present & ~inside, "domain", f"not one of {', '.join(declared.allowed)}"
    if declared.pattern is not None:
        matches = _mask(pc.match_substring_regex(values, declared.pattern))
        yield present & ~matches, "pattern", f"does not match {declared.pattern}"
    chars = pc.utf8_length(values)
    if declared.min_chars is not None:
        short = _mask(pc.less(chars, declared.min_chars))
        yield short, "length", f"shorter than {declared.min_chars} characters"
    if declared.max_chars is not None:
        long = _mask(pc.greater(chars, declared.max_chars))
        yield long, "length", f"longer than {declared.max_chars} characters"


def shortened(value: Any) -> str | None:
    """Return a value for quarantine: at most 2,000 characters, then its length and hash."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) <= BEFORE_CHARS:
        return text
    digest = sha256_hex(text.encode("utf-8", "backslashreplace"))
    return f"{text[:BEFORE_CHARS]}… ({len(text)} characters, sha256 {digest})"


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    )  # fmt: skip


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)
