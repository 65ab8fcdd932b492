"""What a run shows on the terminal: a bar a stage, and a bar for the training inside it.

Where no one watches (a pipe, a log file) the same is said in lines, at most one every ten
seconds a stage, so that a log shows progress without being a film.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

if TYPE_CHECKING:
    from fm_platform.stages.common import StageResult

_LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What came of one artifact."""

    asset: str
    day: str | None
    reused: bool
    reason: str
    recipe_hash: str
    content_hash: str
    rows: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dict(self.__dict__)


class ConsoleListener:
    """Draws what the steps of this process do, on standard error.

    Dagster redirects the process's own output into the run's log during a run, so this writes to
    a copy of standard error that is taken before.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._outcomes: dict[tuple[str, str | None], Outcome] = {}
        self._quiet = quiet
        self._stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
        self._console = Console(file=self._stream, highlight=False)
        self._watched = self._console.is_terminal and not quiet
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            Elapsed(),
            console=self._console,
            transient=True,
            disable=not self._watched,
        )
        self._tasks: dict[str, TaskID] = {}
        self._days: dict[str, dict[str | None, bool]] = {}
        self._since_s: dict[str, float] = {}
        self._last_line_s = time.monotonic()

    def __enter__(self) -> ConsoleListener:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        self._stream.close()

    @property
    def outcomes(self) -> list[Outcome]:
        """What came of each artifact, in order; of a step that was tried again, the last try."""
        return list(self._outcomes.values())

    def say(self, message: str) -> None:
        """Print one line above the bars."""
        if not self._quiet:
            self._console.print(escape(message), soft_wrap=True)
            self._stream.flush()

    def started(self, asset: dg.AssetKey, day: str | None, total_days: int) -> None:
        """Open the stage's bar with its first day."""
        name = asset.to_user_string()
        if name not in self._days:
            self._days[name] = {}
            self._since_s[name] = time.monotonic()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total_days, note=day or "")
        self._bars.update(self._tasks[name], total=total_days, note=day or "")

    def progress(self, asset: dg.AssetKey, task: str, done: int, total: int, note: str) -> None:
        """Move the bar of what happens inside a stage."""
        label = f"  {task}"
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total, note=note)
        self._bars.update(self._tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(label))
        self._line(f"{asset.to_user_string()}: {task}: {done} of {total} {note}".rstrip())

    def said(self, asset: dg.AssetKey, message: str) -> None:
        """Pass on a sentence of a stage."""
        self.say(f"{asset.to_user_string()}: {message}")

    def finished(self, asset: dg.AssetKey, day: str | None, result: StageResult) -> None:
        """Count a finished artifact, and say so when a stage is through."""
        name, version = asset.to_user_string(), result.version
        self._outcomes[name, day] = Outcome(
            name, day, result.reused, result.reason,
            version.recipe_hash, version.content_hash, version.rows,
        )  # fmt: skip
        self._days[name][day] = result.reused
        task = self._tasks[name]
        self._bars.update(task, completed=len(self._days[name]))
        total = int(next(t.total or 1 for t in self._bars.tasks if t.id == task))
        if len(self._days[name]) >= total:
            self._bars.remove_task(self._tasks.pop(name))
            self.say(self._stage_line(name, result))
        else:
            self._line(f"{name}: {len(self._days[name])} of {total} days")

    def _stage_line(self, name: str, last: StageResult) -> str:
        done = list(self._days.pop(name).values())
        built, seconds = done.count(False), time.monotonic() - self._since_s.pop(name)
        if len(done) == 1:
            what = "fresh" if last.reused else f"built ({last.reason})"
        elif not built:
            what = f"{len(done)} days, all fresh"
        else:
            what = f"{len(done)} days, {built} built, {len(done) - built} fresh"
        return f"{name}: {what}, {seconds:.1f} s"

    def _line(self, message: str) -> None:
        if self._watched or self._quiet:
            return
        now_s = time.monotonic()
        if now_s - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now_s
            self.say(message)


def summary_line(outcomes: list[Outcome], seconds: float) -> str:
    """Return what a run did, in one sentence."""
    built = sum(not outcome.reused for outcome in outcomes)
    if not built:
        return f"nothing to do: all {len(outcomes)} artifacts are fresh ({seconds:.0f} s)"
    kept = len(outcomes) - built
    return f"{built} artifacts built, {kept} fresh and reused ({seconds:.0f} s)"
