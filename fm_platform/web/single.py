"""One daemon an instance: a second one would launch every run twice."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from fm_platform.errors import FMError

POSTGRES_LOCK_KEY = 0x464D5F44  # "FM_D"


class SingleInstance:
    """An exclusive lock that the operating system gives back when its holder dies.

    Locks a file, or, where the ledger is in PostgreSQL, an advisory lock there as well, so that
    daemons on two hosts exclude each other too.

    Example:
        with SingleInstance(home.dagster / "daemon.lock", "daemon"):
            run()
    """

    def __init__(self, path: Path, what: str, postgres_url: str | None = None) -> None:
        self.path = path
        self.what = what
        self.postgres_url = postgres_url
        self._handle: IO[str] | None = None
        self._connection: object | None = None

    def __enter__(self) -> SingleInstance:
        """Take the lock at once.

        Raises:
            FMError: If another process holds it; the message names the process.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read() or "unknown"
            handle.close()
            raise self._taken(holder) from None
        handle.seek(0)
        handle.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}, handle)
        handle.flush()
        self._handle = handle
        if self.postgres_url is not None:
            self._lock_postgres(self.postgres_url)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the lock back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._connection is not None:
            self._connection.close()  # type: ignore[attr-defined]
            self._connection = None

    def _lock_postgres(self, url: str) -> None:
        import sqlalchemy as sa

        connection = sa.create_engine(url).connect()
        got = connection.scalar(
            sa.text("select pg_try_advisory_lock(:key)"), {"key": POSTGRES_LOCK_KEY}
        )
        if not got:
            connection.close()
            self.__exit__(None, None, None)
            raise self._taken("a daemon on another host")
        self._connection = connection

    def _taken(self, holder: str) -> FMError:
        return FMError(
            f"a {self.what} is already running here",
            where=self.path,
            found=holder,
            next_step=f"stop the other {self.what} first: two of them would launch every run twice",
        )
