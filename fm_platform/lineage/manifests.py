"""The ledger's rows beside the data, for the day on which ledger and history are both lost.

With each write of history the same lines go into the lake as one small file, before history has
them: `_ledger/<ledger>/<after>-<first>-<last>-<sha256>.gz`. Each file says what it follows, so a
lost one is found; its name holds the hash of its lines, so an altered one is. Files are merged when
there are many. The lake may be on another disk, or on an object store: who has the data has this.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from fm_platform.errors import LedgerError
from fm_platform.hashing import sha256_hex
from fm_platform.lineage.journal import Line

FOLDER = "_ledger"
_NAME = re.compile(r"(\d{12})-(\d{12})-(\d{12})-([0-9a-f]{64})\.gz")
_MANY, _SMALL_BYTES = 200, 262_144


class Shelf(Protocol):
    """The files of a store, by path below its root."""

    def uri(self, relative: str) -> str:
        """Return the whole address."""

    def listing(self, relative: str) -> list[tuple[str, int, bool]]:
        """Return (path, bytes, is a folder) of what is in a folder; nothing where it is not."""

    def buffer(self, relative: str) -> Any:
        """Return the bytes of a file."""

    def write(self, relative: str, data: bytes) -> None:
        """Write a file, atomically."""

    def remove(self, relative: str) -> int:
        """Delete a file; return its bytes."""


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    after: int
    first: int
    last: int
    sha256: str


class Manifests:
    """The rows of one or more ledgers in one store.

    Args:
        shelf: Gives the store when it is first needed.
    """

    def __init__(self, shelf: Callable[[], Shelf]) -> None:
        self._open = shelf
        self._count: dict[str, int] = {}

    @cached_property
    def _shelf(self) -> Shelf:
        return self._open()

    @property
    def folder(self) -> str:
        """Where they lie."""
        return self._shelf.uri(FOLDER)

    def ledgers(self) -> list[str]:
        """Return the identities of the ledgers that wrote here, sorted."""
        entries = self._shelf.listing(FOLDER)
        return sorted(path.rpartition("/")[2] for path, _, is_folder in entries if is_folder)

    def covered(self, ledger: str) -> int:
        """Return the number of the last line up to which nothing is missing; 0: nothing is here."""
        until = 0
        for file in self._files(ledger):
            if file.after > until:
                break
            until = max(until, file.last)
        return until

    def write(self, ledger: str, after: int, lines: Sequence[Line]) -> None:
        """Keep lines that follow line `after`; the same again changes nothing."""
        body = "".join(f"{json.dumps([li.seq, li.table, li.key, li.row])}\n" for li in lines)
        data = body.encode()
        name = f"{after:012d}-{lines[0].seq:012d}-{lines[-1].seq:012d}-{sha256_hex(data)}.gz"
        self._shelf.write(f"{FOLDER}/{ledger}/{name}", gzip.compress(data, 6, mtime=0))
        if ledger not in self._count:
            self._count[ledger] = len(self._files(ledger))
        self._count[ledger] += 1
        if self._count[ledger] > _MANY:
            self.merge(ledger)

    def lines(self) -> Iterator[Line]:
        """Yield all lines of the one ledger that wrote here, oldest first, each once.

        Raises:
            LedgerError: If a file is missing or altered, or several ledgers wrote here.
        """
        known = self.ledgers()
        if len(known) > 1:
            raise LedgerError(
                "several ledgers wrote manifests into this store", where=self.folder,
                found=", ".join(known), next_step="move the folders of the others away",
            )  # fmt: skip
        for ledger in known:
            yield from self._lines(ledger, self._files(ledger), 0)

    def merge(self, ledger: str) -> int:
        """Put the small files at the end into one; return the bytes saved.

        Raises:
            LedgerError: If a file is missing or altered.
        """
        files = self._files(ledger)
        small: list[_File] = []
        for file in reversed(files):
            if file.bytes > _SMALL_BYTES:
                break
            small.insert(0, file)
        self._count[ledger] = len(files)
        if len(small) < 2:
            return 0
        after = min(file.after for file in small)
        lines = list(self._lines(ledger, small, after))
        self._count[ledger] = 0  # so that this write does not merge again
        self.write(ledger, after, lines)
        for file in small:
            self._shelf.remove(file.path)
        left = self._files(ledger)
        self._count[ledger] = len(left)
        return sum(file.bytes for file in files) - sum(file.bytes for file in left)

    def _lines(self, ledger: str, files: Sequence[_File], seen: int) -> Iterator[Line]:
        for file in files:
            if file.after > seen:
                raise LedgerError(
                    "a manifest of the ledger is missing", where=self._shelf.uri(file.path),
                    expected=f"one that follows line {seen}", found=f"after line {file.after}",
                    next_step="restore the folder from a copy",
                )  # fmt: skip
            for told in self._read(file):
                seq, table, key, row = json.loads(told)
                if seq > seen:  # of what was written twice, the later change follows
                    seen = seq
                    yield Line(seq, ledger, table, key, row)

    def _read(self, file: _File) -> list[bytes]:
        why = "its bytes are not those of its name"
        try:
            data = gzip.decompress(bytes(memoryview(self._shelf.buffer(file.path))))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            data, why = b"", str(error)
        if sha256_hex(data) != file.sha256:
            raise LedgerError(
                "a manifest of the ledger was altered", where=self._shelf.uri(file.path),
                found=why, next_step="restore this file from a copy",
            )  # fmt: skip
        return data.splitlines()

    def _files(self, ledger: str) -> list[_File]:
        found = []
        for path, size, _ in self._shelf.listing(f"{FOLDER}/{ledger}"):
            match = _NAME.fullmatch(path.rpartition("/")[2])
            if match:
                after, first, last = (int(match[n]) for n in (1, 2, 3))
                found.append(_File(path, size, after, first, last, match[4]))
        return sorted(found, key=lambda file: (file.first, file.after, file.last, file.path))
