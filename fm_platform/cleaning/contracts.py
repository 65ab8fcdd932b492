"""The contract of raw rows: types, ranges, domains, nullability, checked a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import ContractError
from fm_platform.hashing import sha256_hex
from fm_platform.spec.models import Column, Contract

BEFORE_CHARS = 2_000
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
        rule: `type`, `null`, `range`, `domain`, `pattern`, `length`, `encoding`, `control`.
        column: The column at fault.
        reason: What was expected, in words.
        before: The value, cut to 2,000 characters.
    """

    row: int
    rule: str
    column: str
    reason: str
    before: str | None


def check_batch(
    batch: pa.RecordBatch, contract: Contract
) -> tuple[pa.RecordBatch, list[Rejection]]:
    """Return the batch with its columns typed, and the first violation of each wrong row.

    Rows at fault stay in the returned batch (with nulls where the type was wrong): the caller
    splits by `Rejection.row`, so that ids are made for all rows alike.

    Args:
        batch: Rows; declared columns as text or already typed.
        contract: What is declared.

    Raises:
        ContractError: If a declared column that may not be null is missing altogether.
    """
    columns: dict[str, pa.Array] = {}
    found: dict[int, Rejection] = {}

    def reject(mask: npt.NDArray[np.bool_], rule: str, column: str, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            if row not in found:
                value = batch.column(column)[row].as_py() if column in batch.schema.names else None
                found[row] = Rejection(row, rule, column, reason, shortened(value))

    if "invalid_utf8" in batch.schema.names:
        reject(_mask(batch.column("invalid_utf8")), "encoding", "text", "bytes that are not UTF-8")
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
        typed = typed_column(batch.column(name), declared.type)
        columns[name] = typed
        was_null, is_null = _mask(batch.column(name).is_null()), _mask(typed.is_null())
        reject(is_null & ~was_null, "type", name, f"not {_article(declared.type)}")
        if not declared.nullable:
            reject(was_null, "null", name, "no value where one is required")
        for mask, rule, reason in _violations(typed, declared):
            reject(mask, rule, name, reason)
    extra = {
        name: batch.column(name) for name in batch.schema.names
        if name not in contract.columns and name != "invalid_utf8"
    }  # fmt: skip
    checked = pa.record_batch({**columns, **extra})
    return checked, [found[row] for row in sorted(found)]


def typed_column(values: pa.Array, kind: str) -> pa.Array:
    """Return a column as a declared type; null where a value does not have it."""
    wanted = ARROW_TYPES[kind]
    if values.type == wanted:
        return values
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if kind == "string":
            return values.cast(pa.string())
        try:
            return values.cast(wanted)
        except pa.ArrowInvalid:
            values = values.cast(pa.string())
    import polars as pl

    series = pl.Series(values.cast(pa.large_string())).str.strip_chars()
    if kind == "boolean":
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        series = series.str.to_lowercase().replace_strict(
            words, default=None, return_dtype=pl.Boolean
        )
    elif kind == "date":
        series = series.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    elif kind == "timestamp":
        series = series.str.replace(" ", "T").str.to_datetime(
            strict=False, time_unit="us", time_zone=None, exact=False, format="%Y-%m-%dT%H:%M:%S"
        )
    elif kind == "integer":
        series = series.cast(pl.Int64, strict=False)
    else:
        series = series.cast(pl.Float64, strict=False)
        series = series.set(~series.is_finite().fill_null(True), None)
    return pa.array(series.to_arrow(), type=None).cast(wanted)


def _violations(values: pa.Array, declared: Column) -> list[tuple[npt.NDArray[np.bool_], str, str]]:
    found: list[tuple[npt.NDArray[np.bool_], str, str]] = []
    if declared.minimum is not None:
        found.append((_mask(pc.less(values, declared.minimum)), "range",
                      f"less than {declared.minimum:g}"))  # fmt: skip
    if declared.maximum is not None:
        found.append((_mask(pc.greater(values, declared.maximum)), "range",
                      f"more than {declared.maximum:g}"))  # fmt: skip
    if declared.type != "string":
        return found
    if declared.allowed is not None:
        inside = pc.is_in(values, value_set=pa.array(declared.allowed))
        allowed = ", ".join(declared.allowed)
        outside = ~_mask(inside) & ~_mask(values.is_null())
        found.append((outside, "domain", f"not one of {allowed}"))
    if declared.pattern is not None:
        matches = _mask(pc.match_substring_regex(values, declared.pattern))
        found.append((~matches & ~_mask(values.is_null()), "pattern",
                      f"does not match {declared.pattern}"))  # fmt: skip
    chars = pc.utf8_length(values)
    if declared.min_chars is not None:
        found.append((_mask(pc.less(chars, declared.min_chars)), "length",
                      f"shorter than {declared.min_chars} characters"))  # fmt: skip
    if declared.max_chars is not None:
        found.append((_mask(pc.greater(chars, declared.max_chars)), "length",
                      f"longer than {declared.max_chars} characters"))  # fmt: skip
    return found


def shortened(value: Any) -> str | None:
    """Return a value for quarantine: at most 2,000 characters, then its length and hash."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) <= BEFORE_CHARS:
        return text
    digest = sha256_hex(text.encode("utf-8", "backslashreplace"))
    return f"{text[:BEFORE_CHARS]}… ({len(text)} characters, sha256 {digest})"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)
