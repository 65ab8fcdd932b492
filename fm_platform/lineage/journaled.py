"""A ledger that keeps its history on disk as well: after each write, and when it is opened."""

from __future__ import annotations

import sqlalchemy as sa

from fm_platform.errors import LedgerError
from fm_platform.lineage import outbox, schema
from fm_platform.lineage.database import Database
from fm_platform.lineage.journal import Journal, Line, Tail
from fm_platform.lineage.manifests import Manifests

_AT_ONCE = 500
_CLEAN_AFTER = 2_000


class Journaled(Database):
    """Writes what the outbox lists behind the history on disk."""

    _journal: Journal | None = None
    _manifests: Manifests | None = None
    _identity: str = ""

    @property
    def journal(self) -> Journal | None:
        """The history on disk, None where this ledger keeps none."""
        return self._journal

    def keep_history(self, journal: Journal, manifests: Manifests | None = None) -> None:
        """Keep history in `journal` from now on, and write what is missing there.

        Args:
            journal: On disk.
            manifests: Where the same lines go beside the data; None: nowhere.

        Raises:
            LedgerError: If `journal` is the history of another ledger, or this one is new and the
                data tell of an older one.
        """
        with self._read() as connection:
            self._identity = str(connection.scalar(sa.select(schema.identity.c.id)))
            is_empty = connection.scalar(sa.select(schema.versions.c.id).limit(1)) is None
        with journal.writing() as tail:
            if tail.ledger not in ("", self._identity):
                raise _another(journal, is_empty)
        if is_empty and not tail.ledger and manifests is not None:
            _ensure_new(manifests, self._identity)
        self._journal, self._manifests = journal, manifests
        if not tail.ledger and not is_empty:  # history was begun, or lost and begun anew
            with self._write() as connection:
                connection.execute(schema.outbox.delete())
                for table in outbox.tables():
                    outbox.note_all(connection, table)
        else:
            self.write_history()

    def write_history(self) -> None:
        """Write what is not yet in the history on disk.

        Raises:
            HomeError: If it cannot be written; the ledger itself is right.
            StorageFullError: If the disk is full.
            LedgerError: If it is the history of another ledger.
        """
        if self._journal is None or not self._pending():
            return
        with self._journal.writing() as tail:
            if tail.ledger not in ("", self._identity):
                raise _another(self._journal, is_empty=False)
            self._catch_up(tail)
            while lines := self._lines(tail):
                if self._manifests is not None:  # first: what is in history is there as well
                    self._manifests.write(self._identity, tail.seq, lines)
                tail = self._journal.append(tail, lines)
            self._written_until = tail.seq
        self._clean(tail.seq)

    def pack_history(self) -> int:
        """Compress the history on disk; return the bytes saved, 0 where none is kept.

        Raises:
            LedgerError: If it is damaged.
            StorageFullError: If the disk is full; nothing changed.
        """
        self.write_history()
        saved = 0 if self._journal is None else self._journal.pack()
        if self._journal is not None and self._manifests is not None:
            with self._journal.writing() as tail:
                self._catch_up(tail)
                saved += self._manifests.merge(self._identity)
        return saved

    _caught_up: bool = False

    def _catch_up(self, tail: Tail) -> None:
        """Write beside the data what history has and they have not: once a process."""
        if self._caught_up or self._manifests is None or self._journal is None:
            return
        until = self._manifests.covered(self._identity)
        some: list[Line] = []
        for line in self._journal.lines() if until < tail.seq else ():
            if line.seq > until:
                some.append(line)
            if len(some) == _AT_ONCE:
                self._manifests.write(self._identity, until, some)
                until, some = some[-1].seq, []
        if some:
            self._manifests.write(self._identity, until, some)
        self._caught_up = True

    _written_until: int = 0

    def _written(self) -> None:
        self.write_history()

    def _pending(self) -> bool:
        o = schema.outbox.c
        with self._read() as connection:
            query = sa.select(o.seq).where(o.seq > self._written_until).limit(1)
            return connection.scalar(query) is not None

    def _lines(self, tail: Tail) -> list[Line]:
        """Return the next lines; a row that changed twice meanwhile is written as it is now."""
        o, known = schema.outbox.c, {table.name: table for table in outbox.tables()}
        query = sa.select(o.seq, o.entity, o.key).where(o.seq > tail.seq).order_by(o.seq)
        with self._read() as connection:
            return [
                Line(
                    row.seq, self._identity, row.entity, row.key,
                    outbox.image(connection, known[row.entity], row.key),
                )
                for row in connection.execute(query.limit(_AT_ONCE)).all()
            ]  # fmt: skip

    def _clean(self, until: int) -> None:
        """Forget now and then what is on disk."""
        o = schema.outbox.c
        with self._read() as connection:
            first = connection.scalar(sa.select(sa.func.min(o.seq)))
        if first is not None and until - first >= _CLEAN_AFTER:
            with Database._write(self) as connection:
                connection.execute(schema.outbox.delete().where(o.seq <= until))


def _ensure_new(manifests: Manifests, identity: str) -> None:
    others = [ledger for ledger in manifests.ledgers() if ledger != identity]
    if others:
        raise LedgerError(
            "the ledger and its history are new, but the data tell of an older one",
            where=manifests.folder,
            next_step="fm ledger rebuild --from-stores restores it; to begin anew with these "
            "tables, move this folder away",
        )


def _another(journal: Journal, is_empty: bool) -> LedgerError:
    if is_empty:
        return LedgerError(
            "the ledger is new, but the history of an older one is there",
            where=journal.folder,
            next_step="fm ledger rebuild restores it; to begin anew, move this folder away",
        )
    return LedgerError(
        "this history belongs to another ledger",
        where=journal.folder,
        next_step="open the ledger it belongs to, or move this folder away: a new one is begun",
    )
