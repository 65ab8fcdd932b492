"""Progress: from a stage to the run log, and to whoever listens in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import dagster as dg

if TYPE_CHECKING:
    from fm_platform.stages.common import StageResult

_LOG_EVERY_S = 10.0


class Listener(Protocol):
    """Hears what steps of this process do; the command line draws its progress from it."""

    def started(self, asset: dg.AssetKey, day: str | None, total_days: int) -> None:
        """Hear that work on one artifact begins."""

    def progress(self, asset: dg.AssetKey, task: str, done: int, total: int, note: str) -> None:
        """Hear that `done` of `total` steps of `task` are done."""

    def said(self, asset: dg.AssetKey, message: str) -> None:
        """Hear one sentence of a stage."""

    def finished(self, asset: dg.AssetKey, day: str | None, result: StageResult) -> None:
        """Hear what came of one artifact."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let `listener` hear the steps that run in this thread inside the block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class StepReporter:
    """The `Reporter` that a stage gets from its asset.

    Sentences go to the run log. Progress goes there every ten seconds and at the end of a task,
    so that a long training shows its course without flooding the event store.
    """

    def __init__(self, log: dg.DagsterLogManager, asset: dg.AssetKey) -> None:
        self._log = log
        self._asset = asset
        self._last_logged_s = 0.0

    def info(self, message: str) -> None:
        """Write one sentence to the run log."""
        self._log.info(message)
        if listener := _LISTENER.get():
            listener.said(self._asset, message)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Pass progress on; write it to the run log now and then."""
        if listener := _LISTENER.get():
            listener.progress(self._asset, task, done, total, note)
        now_s = time.monotonic()
        if done >= total or now_s - self._last_logged_s >= _LOG_EVERY_S:
            self._last_logged_s = now_s
            self._log.info(f"{task}: {done} of {total}" + (f", {note}" if note else ""))

    def started(self, day: str | None, total_days: int) -> None:
        """Say that work on one artifact begins."""
        if listener := _LISTENER.get():
            listener.started(self._asset, day, total_days)

    def finished(self, day: str | None, result: StageResult) -> None:
        """Say what came of one artifact."""
        verb = "reused" if result.reused else "built"
        place = self._asset.to_user_string() + (f" {day}" if day else "")
        self._log.info(f"{place}: {verb}, {result.reason}")
        if listener := _LISTENER.get():
            listener.finished(self._asset, day, result)
