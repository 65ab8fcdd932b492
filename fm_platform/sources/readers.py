"""Files of each known format as record batches, damage noted row by row."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fm_platform.errors import SourceFormatError
from fm_platform.sources.csv_reader import (
    BATCH_ROWS,
    MAX_LINE_BYTES,
    read_csv,
    too_long,
)
from fm_platform.sources.rows import Damage, plain_batch, text_batch, visible

BATCH_BYTES = 8 << 20
_MAX_OTHER_COLUMNS = 100
ENDINGS = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}


def format_of(path: Path) -> str:
    """Return csv, jsonl or parquet by a file's ending.

    Raises:
        SourceFormatError: For any other ending.
    """
    ending = path.suffix.lower().lstrip(".")
    if ending not in ENDINGS:
        raise SourceFormatError(
            "cannot tell the format of a file by its ending",
            where=path.name,
            expected=", ".join(f".{name}" for name in sorted(ENDINGS)),
            next_step="set `format` in the options of the source",
        )
    return ENDINGS[ending]


def read_file(
    path: Path,
    kind: str,
    *,
    text_column: str = "text",
    delimiter: str = ",",
    wanted: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file with the file's own columns.

    Args:
        path: The file.
        kind: csv, jsonl or parquet.
        text_column: Column that must hold text where the format knows types.
        delimiter: Of CSV.
        wanted: Columns that are needed where they exist; others may be left out.

    Raises:
        SourceFormatError: If the file as a whole is not of that format; it names the file.
    """
    if kind == "csv":
        return read_csv(path, delimiter)
    if kind == "jsonl":
        return read_jsonl(path, text_column, wanted)
    return read_parquet(path, wanted)


def read_jsonl(
    path: Path, text_column: str = "text", wanted: Collection[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Yield one JSON object a line as text columns.

    Raises:
        SourceFormatError: If no line of the first batch is a JSON object.
    """
    rows: list[dict[str, Any]] = []
    damage: dict[int, Damage] = {}
    size, first = 0, True
    with path.open("rb") as handle:
        for number, line in _numbered_lines(handle):
            row, note = _object(line, number, text_column)
            if note is not None:
                damage[len(rows)] = note
            rows.append(row)
            size += len(line) if isinstance(line, bytes) else 0
            if len(rows) == BATCH_ROWS or size >= BATCH_BYTES:
                yield _as_batch(path, rows, damage, wanted, first)
                rows, damage, size, first = [], {}, 0, False
    if rows:
        yield _as_batch(path, rows, damage, wanted, first)


def _object(
    line: bytes | Damage, number: int, text_column: str
) -> tuple[dict[str, Any], Damage | None]:
    """Return the object of a line, and what is wrong with it."""
    if isinstance(line, Damage):
        return {}, line
    text = line.decode("utf-8", "surrogateescape")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        reason = f"line {number} is not JSON: {what}"
        return {}, Damage("format", None, reason, visible(text.strip()))
    if not isinstance(row, dict):
        reason = f"line {number} is not a JSON object"
        return {}, Damage("format", None, reason, visible(text.strip()))
    value = row.get(text_column)
    if value is not None and not isinstance(value, str):
        kind = {dict: "an object", list: "a list", bool: "a boolean"}.get(type(value), "a number")
        shown = visible(json.dumps(value))
        return row, Damage("type", text_column, f"{kind} where text is expected", shown)
    return row, None


def _numbered_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | Damage]]:
    number = 0
    while line := handle.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            yield number, too_long(line, handle)
        elif line.strip():
            yield number, line


def _as_batch(
    path: Path,
    rows: list[dict[str, Any]],
    damage: dict[int, Damage],
    wanted: Collection[str],
    first: bool,
) -> pa.RecordBatch:
    broken = [note for note in damage.values() if note.rule == "format"]
    if first and len(broken) == len(rows):
        raise SourceFormatError(
            "no line is a JSON object", where=path.name, found=broken[0].reason,
            expected="one JSON object a line",
        )  # fmt: skip
    names = [name for name in wanted if any(name in row for row in rows)]
    some = next(row for row in rows if row) if any(rows) else {}
    names += [name for name in islice(some, _MAX_OTHER_COLUMNS) if name not in names]
    columns = {visible(name): [row.get(name) for row in rows] for name in sorted(names)}
    return text_batch(columns, damage, len(rows))


def read_parquet(path: Path, wanted: Collection[str] = ()) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file, typed columns as they are.

    Raises:
        SourceFormatError: If it is damaged, also where that shows only later in the file.
    """
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        yield plain_batch(
            pa.record_batch([pa.nulls(0, field.type) for field in schema], schema=schema)
        )
        columns = [name for name in schema.names if name in wanted] or None
        for batch in file.iter_batches(_batch_rows(file), columns=columns):
            yield plain_batch(batch)
    except (pa.ArrowException, OSError) as error:
        raise SourceFormatError(
            "a file is not readable Parquet",
            where=path.name,
            found=(str(error).splitlines() or [type(error).__name__])[0][:200],
            next_step="fetch the file again: it is damaged or was cut",
        ) from None


def _batch_rows(file: pq.ParquetFile) -> int:
    """Return how many rows make about `BATCH_BYTES`: fewer where rows are large."""
    footer = file.metadata
    size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    fitting: int = BATCH_BYTES * footer.num_rows // max(size, 1)
    return max(1, min(BATCH_ROWS, fitting))
