"""Rows as readers give them on: text columns without a damaged byte, damage beside them.

A reader never drops a row. What it cannot read becomes a row with a note of damage, and the
contract sends that row to quarantine with the reason and the value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

PROBLEM = "problem"
"""Reserved column: null, or the damage of a row as JSON; `cleaning.contracts` reads it."""


@dataclass(frozen=True)
class Damage:
    """Why a row cannot be right, whatever the contract says.

    Attributes:
        rule: `format`, `cells`, `encoding`, `type` or `date`.
        column: Column at fault, or None for the row as a whole.
        reason: What was expected.
        before: What came, as far as it can be shown.
    """

    rule: str
    column: str | None
    reason: str
    before: str | None


def text_batch(
    columns: Mapping[str, Sequence[Any]], damage: Mapping[int, Damage], rows: int
) -> pa.RecordBatch:
    """Return values as text columns; null where a value is missing or empty.

    Args:
        columns: Column -> one value a row: text, number, boolean, list, mapping or None.
        damage: Row -> what the reader already knows to be wrong with it.
        rows: Number of rows.
    """
    notes = dict(damage)
    arrays = {name: _text_array(name, values, notes) for name, values in columns.items()}
    return with_damage(arrays, notes, rows)


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of a typed file: text checked, nested values as JSON, numbers as they are."""
    notes: dict[int, Damage] = {}
    arrays = {
        name: _plain_array(name, column, notes)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return with_damage(arrays, notes, batch.num_rows)


def with_damage(
    arrays: Mapping[str, pa.Array], damage: Mapping[int, Damage], rows: int
) -> pa.RecordBatch:
    """Return columns with the notes of damage beside them."""
    notes: list[str | None] = [None] * rows
    for row, note in damage.items():
        notes[row] = json.dumps(asdict(note))
    return pa.record_batch({**arrays, PROBLEM: pa.array(notes, pa.string())})


def add_damage(batch: pa.RecordBatch, damage: Mapping[int, Damage]) -> pa.RecordBatch:
    """Return a batch with more notes; a row keeps its first one."""
    if not damage:
        return batch
    notes = batch.column(PROBLEM).to_pylist()
    for row, note in damage.items():
        notes[row] = notes[row] or json.dumps(asdict(note))
    index = batch.schema.get_field_index(PROBLEM)
    return batch.set_column(index, PROBLEM, pa.array(notes, pa.string()))


def visible(text: str) -> str:
    r"""Return a text that UTF-8 can hold: damaged bytes and lone surrogates as `\x..`.

    Example:
        >>> visible(b"caf\xe9".decode("utf-8", "surrogateescape"))
        'caf\\xe9'
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return data.decode("utf-8", "backslashreplace")


def _text_array(name: str, values: Sequence[Any], notes: dict[int, Damage]) -> pa.Array:
    try:
        array = pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        # something in it is no text, or holds bytes that are not UTF-8: look at every value
        array = pa.array(_cells(name, values, notes), pa.string())
    return _empty_as_null(array)


def _cells(name: str, values: Iterable[Any], notes: dict[int, Damage]) -> list[str | None]:
    cells: list[str | None] = []
    for row, value in enumerate(values):
        if value is None or isinstance(value, str):
            text = value
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (dict, list)):
            text = json.dumps(value, ensure_ascii=False, default=str)
        elif isinstance(value, bytes):
            text = value.decode("utf-8", "surrogateescape")
        else:
            text = str(value)
        if text is not None and _damaged(text):
            text = visible(text)
            notes.setdefault(row, Damage("encoding", name, "bytes that are not UTF-8", text))
        cells.append(text)
    return cells


def _plain_array(name: str, column: pa.Array, notes: dict[int, Damage]) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if _is_nested(kind):
        return _text_array(name, column.to_pylist(), notes)
    if not _is_text(kind):
        return column
    try:
        text = column.cast(pa.string())
        text.validate(full=True)
    except pa.ArrowInvalid:
        return _text_array(name, column.cast(pa.binary()).to_pylist(), notes)
    return _empty_as_null(text)


def _empty_as_null(array: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    )  # fmt: skip


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind))


def _damaged(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
