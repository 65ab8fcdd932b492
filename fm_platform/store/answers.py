"""What models answered, by content: one small row of numbers for each question ever asked.

A question is a book (model, prompt and settings, as one hash) and a row of it (the hash of what
was filled in). The file is SQLite, so a day looks up its own rows whatever the number of those of
the past. Each answer carries a check of its own: a damaged one is no answer, and is asked again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fm_platform.errors import CorruptArtifactError
from fm_platform.store.files import aside, make_dirs, storage_errors

Floats = npt.NDArray[np.float32]
_CHECK_BYTES = 8
_PATIENCE_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS books (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS answers (
    book INTEGER NOT NULL, row BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (book, row)
) WITHOUT ROWID;
"""


class AnswerStore:
    """Answers in one file.

    Example:
        store = AnswerStore(home.cache / "answers.db")
        store.put(book, {row: np.array([-1.5, -2.25], np.float32)})
        known = store.get(book, [row, other_row], width=2)
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, book: str, rows: Sequence[bytes], width: int) -> dict[bytes, Floats]:
        """Return the answers that are known.

        Args:
            book: Hash of model, prompt and settings, 64 hex digits.
            rows: Hashes of what was filled in.
            width: Numbers of an answer; another number of them is no answer.

        Returns:
            Row -> float32[width]; unknown and damaged ones are missing.
        """
        if not rows or not self.path.is_file():
            return {}
        found: dict[bytes, Floats] = {}
        with self._open() as connection:
            number = _number(connection, book)
            if number is None:
                return {}
            query = "SELECT body FROM answers WHERE book = ? AND row = ?"
            for row in rows:
                for (body,) in connection.execute(query, (number, row)):
                    numbers = body[:-_CHECK_BYTES]
                    whole = body[-_CHECK_BYTES:] == _check(book, row, numbers)
                    if whole and len(numbers) == 4 * width:
                        found[row] = np.frombuffer(numbers, "<f4").astype(np.float32)
        return found

    def put(self, book: str, answers: Mapping[bytes, Floats]) -> None:
        """Keep answers; one that is known already is replaced.

        Raises:
            StorageFullError: If the disk is full.
        """
        with storage_errors(self.path, full_only=True), self._open() as connection:
            connection.execute("INSERT OR IGNORE INTO books (hash) VALUES (?)", [_bytes(book)])
            number = _number(connection, book)
            bodies = ((row, answers[row].astype("<f4").tobytes()) for row in sorted(answers))
            connection.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
                ((number, row, body + _check(book, row, body)) for row, body in bodies),
            )

    def count(self) -> int:
        """Return how many answers are kept."""
        if not self.path.is_file():
            return 0
        with self._open() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file; one that is no database any more is moved aside, and begun anew."""
        make_dirs(self.path.parent)
        try:
            connection = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or not to be written
                raise
            self._set_aside()
            connection = self._connect()
        try:
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            self._set_aside()
            raise CorruptArtifactError(
                "the file of answers is damaged", where=self.path, found=str(error),
                next_step="run again: it was moved aside, and models are asked again",
            ) from error  # fmt: skip
        finally:
            connection.close()

    def _set_aside(self) -> None:
        folder = self.path.parent / "_damaged"
        make_dirs(folder)
        self.path.rename(aside(folder, self.path.name))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_S)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _number(connection: sqlite3.Connection, book: str) -> int | None:
    row = connection.execute("SELECT id FROM books WHERE hash = ?", [_bytes(book)]).fetchone()
    return None if row is None else int(row[0])


def _bytes(book: str) -> bytes:
    return bytes.fromhex(book)


def _check(book: str, row: bytes, numbers: bytes) -> bytes:
    return sha256(_bytes(book) + row + numbers).digest()[:_CHECK_BYTES]
