"""CSV in bounded memory: Arrow reads whole chunks, a strict reader what is not plain.

A chunk of lines goes through Arrow where nothing in it is doubtful: no line break inside a
value, no stray quote, the right number of cells, UTF-8. Any other chunk is read record by record
with the strict rules of RFC 4180, and a record that breaks them is given on as damage while the
lines behind it are read again. So an unclosed quote costs its own line and no other.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from fm_platform.errors import SourceFormatError
from fm_platform.sources.rows import Damage, text_batch, visible, with_damage

BATCH_ROWS = 4096
CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 32 << 20
SHOWN_CHARS = 2_000


def read_csv(path: Path, delimiter: str = ",") -> Iterator[pa.RecordBatch]:
    """Yield the records of a file as text columns, with the damage of each row.

    A file with a head and no record gives one batch without rows; an empty file gives none.

    Args:
        path: The file; UTF-8 with or without a byte order mark.
        delimiter: One character.

    Raises:
        SourceFormatError: If the head cannot be read or names a column twice.
    """
    with path.open("rb") as handle:
        names = _head(handle, path, delimiter)
        if names is None:
            return
        yield text_batch({name: [] for name in names}, {}, 0)
        plain = _Plain(names, delimiter)
        for chunk, cut in _chunks(handle):
            if chunk:
                whole = plain.read(chunk)
                if whole is None:
                    yield from _strict(chunk, handle, names, delimiter)
                else:
                    yield from whole
            if cut is not None:
                yield text_batch({name: [None] for name in names}, {0: cut}, 1)


def _head(handle: BinaryIO, path: Path, delimiter: str) -> list[str] | None:
    """Return the column names, or None for an empty file; the handle stands behind the head."""
    start = handle.read(CHUNK_BYTES)
    wrong = "is UTF-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else None
    if b"\r" in start and b"\n" not in start:
        wrong = wrong or "ends its lines with a carriage return alone"
    if wrong:
        raise SourceFormatError(
            f"a file {wrong}", where=path.name, expected="UTF-8, lines that end with a line feed",
            next_step="save it as CSV UTF-8",
        )  # fmt: skip
    handle.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
    try:
        for cells, _ in _records(b"", handle, delimiter):
            if isinstance(cells, Damage):
                raise csv.Error(cells.reason)
            names = [visible(cell).strip() for cell in cells]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise SourceFormatError(
                    "the head of a file names a column twice", where=path.name,
                    found=", ".join(repr(name) for name in twice),
                )  # fmt: skip
            return names
    except csv.Error as error:
        raise SourceFormatError(
            "the head of a file is not CSV", where=f"{path.name}, line 1", found=str(error)
        ) from None
    return None


def _chunks(handle: BinaryIO) -> Iterator[tuple[bytes, Damage | None]]:
    """Yield about a mebibyte of whole lines at a time, and a line that is too long as damage."""
    while chunk := handle.read(CHUNK_BYTES):
        cut = None
        if not chunk.endswith(b"\n"):
            rest = handle.readline(MAX_LINE_BYTES)
            if len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                end = chunk.rfind(b"\n") + 1
                chunk, cut = chunk[:end], too_long(chunk[end:] + rest, handle)
            else:
                chunk += rest
        yield chunk, cut


def too_long(start: bytes, handle: BinaryIO) -> Damage:
    """Return a line that is not kept as its beginning, length and hash."""
    digest, length = hashlib.sha256(start), len(start)
    while part := handle.readline(CHUNK_BYTES):
        digest.update(part)
        length += len(part)
        if part.endswith(b"\n"):
            break
    shown = visible(start[: 4 * SHOWN_CHARS].decode("utf-8", "surrogateescape"))[:SHOWN_CHARS]
    return Damage(
        "format", None, f"a line longer than {MAX_LINE_BYTES} bytes",
        f"{shown}… ({length} bytes, sha256 {digest.hexdigest()})",
    )  # fmt: skip


class _Plain:
    """Reads a chunk with Arrow, or says that it is not plain."""

    def __init__(self, names: Sequence[str], delimiter: str) -> None:
        self.names = list(names)
        other = rb"[^\n\r\"" + re.escape(delimiter.encode()) + rb"]"
        self._stray = re.compile(other + rb'"' + other)
        self._parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        self._convert = pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=False
        )

    def read(self, chunk: bytes) -> list[pa.RecordBatch] | None:
        """Return the records, or None where a strict look is needed."""
        if chunk.count(b'"') % 2 or self._stray.search(chunk):
            return None
        # one block: a record never straddles two
        reading = pacsv.ReadOptions(
            column_names=self.names, use_threads=False, block_size=len(chunk) + 1
        )
        try:
            table = pacsv.read_csv(
                pa.BufferReader(chunk),
                read_options=reading,
                parse_options=self._parse,
                convert_options=self._convert,
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return []
            return None
        batches = []
        for batch in table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS):
            arrays = {}
            for name, column in zip(self.names, batch.columns, strict=True):
                if pc.any(pc.match_substring_regex(column, r"[\n\r]")).as_py():
                    return None
                arrays[name] = pc.if_else(
                    pc.equal(column, ""), pa.scalar(None, pa.string()), column
                )
            batches.append(with_damage(arrays, {}, batch.num_rows))
        return batches


def _strict(
    chunk: bytes, handle: BinaryIO, names: Sequence[str], delimiter: str
) -> Iterator[pa.RecordBatch]:
    """Yield the records of a chunk, up to the end of the record that its last line begins."""
    rows: list[list[str | None]] = []
    damage: dict[int, Damage] = {}
    empty: list[str | None] = [None] * len(names)

    def batch() -> pa.RecordBatch:
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        made = text_batch(columns, damage, len(rows))
        rows.clear()
        damage.clear()
        return made

    for cells, raw in _records(chunk, handle, delimiter):
        if isinstance(cells, Damage):
            damage[len(rows)] = cells
            rows.append(empty)
        elif len(cells) == len(names):
            rows.append([*cells])
        else:
            reason = f"{len(cells)} cells where the head has {len(names)}"
            damage[len(rows)] = Damage("cells", None, reason, visible(raw.rstrip("\r\n")))
            rows.append(empty)
        if len(rows) == BATCH_ROWS:
            yield batch()
    if rows:
        yield batch()


def _records(
    chunk: bytes, handle: BinaryIO, delimiter: str
) -> Iterator[tuple[list[str] | Damage, str]]:
    """Yield cells and raw text of each record of `chunk`; with an empty chunk, of one record.

    Damaged bytes come as surrogate escapes. After a broken record its first line is given as
    damage, and the lines that it swallowed are read again.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    waiting = deque(_lines(chunk))
    taken: list[str] = []
    read_again = 0

    def feed() -> Iterator[str]:
        while line := waiting.popleft() if waiting else _next_line(handle):
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    once = not chunk
    while waiting or once:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first, *rest = taken
            waiting.extendleft(reversed(rest))
            read_again = max(read_again - 1, len(rest))
            yield Damage("format", None, f"not CSV: {error}", visible(first.rstrip("\r\n"))), first
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
            once = False
            continue
        raw = "".join(taken)
        stray = read_again > 0 and len(taken) == 1 and raw.count('"') % 2
        read_again -= len(taken)
        if stray:  # the end of a broken record, not a record
            yield Damage("format", None, "a quote that opens nothing", visible(raw.strip())), raw
        elif cells:
            once = False
            yield cells, raw


def _lines(chunk: bytes) -> Iterator[str]:
    return iter(io.StringIO(chunk.decode("utf-8", "surrogateescape"), newline=""))


def _next_line(handle: BinaryIO) -> str:
    return handle.readline(MAX_LINE_BYTES).decode("utf-8", "surrogateescape")
