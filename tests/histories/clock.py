"""A clock that tests can set: what is recorded meanwhile bears the time they say."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from fm_platform.lineage import database


@contextmanager
def clock(start: datetime) -> Iterator[None]:
    """Let the ledger's time begin at `start` and go on from there.

    Time runs as on the wall, so records of one block keep their order. Every module of the
    platform that has taken `now` from `lineage.database` is told; of those that are imported
    later, only those that take it at import time from `lineage.database` itself are right, too.
    """
    real = database.now
    began = time.monotonic()

    def now() -> datetime:
        return start + timedelta(seconds=time.monotonic() - began)

    with pytest.MonkeyPatch.context() as patch:
        for name, module in sorted(sys.modules.items()):
            if name.startswith("fm_platform.") and getattr(module, "now", None) is real:
                patch.setattr(module, "now", now)
        yield
