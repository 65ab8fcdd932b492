"""One at a time: a change of everything waits for no run and disturbs none."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from fm_platform.errors import BranchError
from fm_platform.lineage.ledger import Lease, Ledger


@contextmanager
def whole_project(ledger: Ledger, project: str, what: str) -> Iterator[Lease]:
    """Hold the lease of a whole universe of a project; a later holder fences this one.

    Raises:
        BranchError: If something is being built in it.
    """
    scope = ledger.scope(project)
    busy = [
        lease
        for lease in ledger.held_leases()
        if lease.key.startswith(f"{scope}/") and not lease.is_stale
    ]
    if busy:
        raise BranchError(
            f"something of {scope} is being built: {what} would change it under its feet",
            found=", ".join(f"{lease.key} by {lease.holder}" for lease in busy[:3]),
            next_step="wait until the run has ended, or stop it",
        )
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[-128:]
    lease = ledger.acquire_lease(f"{scope}/-universe", holder)
    try:
        yield lease
    finally:
        ledger.release_lease(lease)
