"""Leases: at most one run may make a version of a slot visible, the newest one.

A lease needs no heartbeat: whoever acquires it next takes over, and the one before is fenced when
it checks, which it does right before its commit. The epoch also numbers the commit in the store,
so even a writer that stalls between check and commit loses there.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import FencedError
from fm_platform.lineage import schema
from fm_platform.lineage.database import Database, now
from fm_platform.lineage.process import is_alive


@dataclass(frozen=True)
class Lease:
    """The right to write one artifact slot. `epoch` grows with every holder."""

    key: str
    epoch: int
    holder: str


@dataclass(frozen=True)
class HeldLease:
    """A lease that was not given back: of a step that runs, or of one that died."""

    key: str
    epoch: int
    holder: str
    host: str
    pid: int
    acquired_at: datetime

    @property
    def is_stale(self) -> bool:
        """Whether its process ran on this machine and is gone."""
        return self.host == socket.gethostname() and not is_alive(self.pid)


class Leases(Database):
    """The leases in the ledger."""

    def acquire_lease(self, key: str, holder: str) -> Lease:
        """Take the right to write `key`; whoever held it before is fenced from now on.

        The epoch is the time in milliseconds, or one more than the last where that is greater:
        it grows even if the ledger was lost and begun anew beside a store with older commits.
        """
        c = schema.leases.c
        values = {
            "holder": holder, "host": socket.gethostname(), "pid": os.getpid(),
            "acquired_at": now(), "released_at": None,
        }  # fmt: skip
        with self._write() as connection:
            last = connection.scalar(sa.select(c.epoch).where(c.key == key))
            epoch = max((last or 0) + 1, time.time_ns() // 1_000_000)
            if last is None:
                connection.execute(schema.leases.insert(), {"key": key, "epoch": epoch, **values})
            else:
                connection.execute(
                    schema.leases.update().where(c.key == key).values(epoch=epoch, **values)
                )
        return Lease(key, epoch, holder)

    def check_lease(self, lease: Lease) -> None:
        """Do nothing while `lease` holds.

        Raises:
            FencedError: If a newer run took it, or it was given back.
        """
        with self._read() as connection:
            ensure_held(connection, lease)

    def release_lease(self, lease: Lease) -> None:
        """Give a lease back (nothing if somebody else has it by now)."""
        c = schema.leases.c
        with self._write() as connection:
            connection.execute(
                schema.leases.update()
                .where((c.key == lease.key) & (c.epoch == lease.epoch))
                .values(released_at=now())
            )

    def held_leases(self) -> list[HeldLease]:
        """Return the leases that were not given back, oldest first."""
        c = schema.leases.c
        query = (
            sa.select(c.key, c.epoch, c.holder, c.host, c.pid, c.acquired_at)
            .where(c.released_at.is_(None))
            .order_by(c.acquired_at, c.key)
        )
        with self._read() as connection:
            return [HeldLease(**row._mapping) for row in connection.execute(query)]


def ensure_held(connection: Connection, lease: Lease) -> None:
    """Raise FencedError unless `lease` holds, as seen by a transaction."""
    c = schema.leases.c
    row = connection.execute(
        sa.select(c.epoch, c.holder, c.released_at).where(c.key == lease.key)
    ).first()
    if row is not None and row.epoch == lease.epoch and row.released_at is None:
        return
    if row is None:
        found = "no lease"
    elif row.epoch == lease.epoch:
        found = f"given back at {row.released_at}"
    else:
        found = f"epoch {row.epoch} of {row.holder}"
    raise FencedError(
        f"fenced: another run took over {lease.key}",
        expected=f"epoch {lease.epoch} of {lease.holder}",
        found=found,
        next_step="the newer run writes this artifact; run again what else this run was to build",
    )
