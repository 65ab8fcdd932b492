"""History on disk: the ledger's rows as lines that only ever grow, so that it can be rebuilt.

`history/00000001.log`, ... hold one line for each row that was written or changed: its hash, the
hash of the line before, and the row as JSON. A line that was altered or taken out is found. One
torn by a crash is cut off: the ledger knows that it was not written (`outbox`), and writes it anew.
`pack` compresses what is written (`.log.gz`): the same lines, a sixth of the bytes.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fm_platform.errors import FMError, HomeError, LedgerError, StorageFullError
from fm_platform.hashing import sha256_hex

_SEGMENT_BYTES = 16_000_000
_PACK_BYTES = 65_536
"""A shorter segment is not worth a file of its own."""
_PACKED = ".gz"
_START = "0" * 64


@dataclass(frozen=True)
class Line:
    """One row of the ledger as it was after a change.

    Attributes:
        seq: Number of the change in its ledger; rises.
        ledger: Which ledger.
        table: Whose row.
        key: Which row.
        row: Its values as JSON; None: it was deleted.
    """

    seq: int
    ledger: str
    table: str
    key: str
    row: dict[str, Any] | None


@dataclass(frozen=True)
class Tail:
    """Where history ends."""

    seq: int = 0
    ledger: str = ""
    hash: str = _START


class Journal:
    """The history in one folder, written by one process at a time.

    Args:
        folder: Made when first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def writing(self) -> Iterator[Tail]:
        """Give the end of history, and the right to write behind it.

        Raises:
            LedgerError: If the history is damaged before its last line.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield self._mended_tail()
        except OSError as error:
            raise _in_words(error, self.folder) from error

    def append(self, tail: Tail, lines: Sequence[Line]) -> Tail:
        """Write lines behind `tail` and sync them; return the new end. Only within `writing`."""
        texts = []
        for line in lines:
            text, tail = _encode(line, tail)
            texts.append(text)
        segments = self._segments()
        path = segments[-1] if segments else self.folder / f"{1:08d}.log"
        if path.suffix == _PACKED or (segments and path.stat().st_size > _SEGMENT_BYTES):
            path = self.folder / f"{int(path.name[:8]) + 1:08d}.log"
        fresh = not path.exists()
        with path.open("ab") as stream:
            stream.write(b"".join(texts))
            stream.flush()
            os.fsync(stream.fileno())
        if fresh:
            _sync_folder(self.folder)
        return tail

    def lines(self) -> Iterator[Line]:
        """Yield all of history, oldest first; a last line that was torn is left out.

        Raises:
            LedgerError: If a line was altered, or one is missing.
        """
        tail = Tail()
        segments = self._segments()
        for number, path in enumerate(segments):
            with _reading(path) as stream:
                for at, text in enumerate(stream, start=1):
                    decoded = _decode(text, tail.hash)
                    if decoded is None:
                        if number == len(segments) - 1 and not stream.read(1):
                            return  # torn by a crash: the ledger writes it again
                        raise LedgerError(
                            "the history on disk was altered or is not whole",
                            where=f"{path}:{at}",
                            next_step="restore this file from a copy",
                        )
                    line, tail = decoded
                    yield line

    def is_empty(self) -> bool:
        """Whether nothing was ever written."""
        return not any(path.stat().st_size for path in self._segments())

    def pack(self) -> int:
        """Compress the segments; return the bytes saved. The lines stay what they are.

        Raises:
            LedgerError: If the history is damaged.
        """
        saved = 0
        with self.writing():  # its last line is whole then
            for path in self._segments():
                if path.suffix != _PACKED and path.stat().st_size >= _PACK_BYTES:
                    saved += _pack(path)
        return saved

    def _segments(self) -> list[Path]:
        # of a segment that is there twice (a kill while it was packed) the plain one counts
        named = {path.name[:8]: path for path in self.folder.glob("[0-9]*.log.gz")}
        named |= {path.name[:8]: path for path in self.folder.glob("[0-9]*.log")}
        return [path for _, path in sorted(named.items())]

    def _mended_tail(self) -> Tail:
        """Return where history ends, after cutting off a torn line."""
        for path in reversed(self._segments()):
            if path.suffix == _PACKED:
                return _packed_tail(path)
            size = path.stat().st_size
            while size:
                start = _last_line(path, size)
                with path.open("rb") as stream:
                    stream.seek(start)
                    text = stream.read(size - start)
                decoded = _decode(text, None)
                if decoded is not None:
                    return decoded[1]
                with path.open("r+b") as stream:
                    stream.truncate(start)
                    os.fsync(stream.fileno())
                size = start
        return Tail()


def _encode(line: Line, tail: Tail) -> tuple[bytes, Tail]:
    body = json.dumps([line.seq, line.ledger, line.table, line.key, line.row], allow_nan=True)
    hash_ = sha256_hex(f"{tail.hash} {body}".encode())
    return f"{hash_} {tail.hash} {body}\n".encode(), Tail(line.seq, line.ledger, hash_)


def _decode(text: bytes, before: str | None) -> tuple[Line, Tail] | None:
    """Return a line and the end of history after it; None where it is torn or altered.

    Args:
        text: The line.
        before: Hash of the line before it; None: not asked.
    """
    parts = text.split(b" ", 2)
    if len(parts) != 3 or not text.endswith(b"\n"):
        return None
    hash_, prev, body = parts[0].decode("latin-1"), parts[1].decode("latin-1"), parts[2][:-1]
    if sha256_hex(parts[1] + b" " + body) != hash_ or before not in (None, prev):
        return None
    line = Line(*json.loads(body))
    return line, Tail(line.seq, line.ledger, hash_)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Open a segment, packed or not.

    Raises:
        LedgerError: If it cannot be unpacked.
    """
    if path.suffix != _PACKED:
        with path.open("rb") as stream:
            yield stream
        return
    try:
        with gzip.open(path, "rb") as packed:
            yield packed
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LedgerError(
            "the history on disk was altered or is not whole", where=path, found=str(error),
            next_step="restore this file from a copy",
        ) from error  # fmt: skip


def _packed_tail(path: Path) -> Tail:
    text = b""
    with _reading(path) as stream:
        for text in stream:  # noqa: B007  (the last one counts)
            pass
    decoded = _decode(text, None)
    if decoded is None:
        raise LedgerError(
            "the history on disk was altered or is not whole", where=path,
            next_step="restore this file from a copy",
        )  # fmt: skip
    return decoded[1]


def _pack(path: Path) -> int:
    """Replace a segment by a compressed one; the plain file goes when the other is proved."""
    target, fresh = path.with_name(path.name + _PACKED), path.with_name(f".{path.name}.packing")
    with path.open("rb") as source, fresh.open("wb") as raw:
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as packed:
            shutil.copyfileobj(source, packed)
        raw.flush()
        os.fsync(raw.fileno())
    with path.open("rb") as one, gzip.open(fresh, "rb") as other:
        while block := one.read(1 << 20):
            if other.read(len(block)) != block:
                raise LedgerError("a packed segment is not what was packed", where=fresh)
    fresh.replace(target)
    _sync_folder(path.parent)
    saved = path.stat().st_size - target.stat().st_size
    path.unlink()
    _sync_folder(path.parent)
    return saved


def _last_line(path: Path, size: int) -> int:
    """Return where the last line of the first `size` bytes begins."""
    with path.open("rb") as stream:
        end = size - 1  # its own newline does not count
        while end > 0:
            step = min(65_536, end)
            stream.seek(end - step)
            found = stream.read(step).rfind(b"\n")
            if found >= 0:
                return end - step + found + 1
            end -= step
    return 0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _in_words(error: OSError, folder: Path) -> FMError:
    kind = StorageFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else HomeError
    return kind(
        "the history of the ledger cannot be written",
        where=folder,
        found=error.strerror or str(error),
        next_step="free some space or make the folder writable, then run again: nothing is lost",
    )
