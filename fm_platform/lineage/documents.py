"""What hashes stand for, and hashes that follow from recorded content alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import NonReproducibleError
from fm_platform.lineage import schema
from fm_platform.lineage.database import Database, now


class Documents(Database):
    """Documents by hash, and the memo of derived inputs."""

    def remember(self, hash_: str, kind: str, body: Any) -> None:
        """Keep what `hash_` stands for, e.g. the source of a labeling function."""
        if hash_ not in self._known_documents:
            with self._write() as connection:
                self._remember(connection, [(hash_, kind, body)])

    def describe(self, hash_: str, kind: str, body: Callable[[], Any]) -> None:
        """Keep what `hash_` stands for; `body` is asked only where that is not known yet."""
        if hash_ not in self._known_documents and self.document(hash_) is None:
            self.remember(hash_, kind, body())

    def document(self, hash_: str) -> Any | None:
        """Return what `hash_` stands for (JSON), or None where it was not kept."""
        d = schema.documents.c
        with self._read() as connection:
            return connection.scalar(sa.select(d.body).where(d.hash == hash_))

    def _remember(self, connection: Connection, items: Iterable[tuple[str, str, Any]]) -> None:
        d = schema.documents.c
        for hash_, kind, body in items:
            if hash_ in self._known_documents:
                continue
            if connection.scalar(sa.select(d.hash).where(d.hash == hash_)) is None:
                row = {"hash": hash_, "kind": kind, "body": body, "first_seen": now()}
                connection.execute(schema.documents.insert(), row)
            else:  # only what was committed before counts as known
                self._known_documents.add(hash_)

    def derive(self, key: str, compute: Callable[[], str]) -> str:
        """Return the value that follows from `key`, computing it only the first time.

        `key` is a hash of everything that `compute` reads (see `recipes.gold_key`). So an
        unchanged day needs no table to be read to know its recipe, and `status` knows it too.
        """
        known = self.known_derived([key]).get(key)
        if known is not None:
            return known
        value = compute()
        with self._write() as connection:
            c = schema.derived.c
            found = connection.scalar(sa.select(c.value).where(c.key == key))
            if found is None:
                connection.execute(schema.derived.insert(), {"key": key, "value": value})
        if found is not None and found != value:
            raise NonReproducibleError(
                "the same rows gave two summaries", where=f"derived {key[:12]}",
                expected=found[:12], found=value[:12],
            )  # fmt: skip
        return value

    def known_derived(self, keys: Iterable[str]) -> dict[str, str]:
        """Return key -> value for those of `keys` that are known."""
        c = schema.derived.c
        wanted = sorted(set(keys))
        found: dict[str, str] = {}
        with self._read() as connection:
            for start in range(0, len(wanted), 500):
                query = sa.select(c.key, c.value).where(c.key.in_(wanted[start : start + 500]))
                found.update({row.key: row.value for row in connection.execute(query)})
        return found
