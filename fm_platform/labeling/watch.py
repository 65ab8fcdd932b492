"""Calls of a project's own Python that may not take for ever.

A call that takes too long is interrupted by a timer signal: it reaches a loop in Python and the
matching of a regular expression that backtracks without end. Python gives signals to the main
thread only; elsewhere, and inside a library that does not return, a call is judged when it is over.

What counts is the time of the processor, so that a busy machine changes no vote; a call that only
waits may wait ten times as long. A call that is importing a library is left alone until it has:
interrupted there, the library would stay half loaded for the whole process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

PATIENCE = 10
"""Calls of one function on one day that may run into the limit before the rest is not made."""


NOT_ASKED = "not asked: too many calls before took too long"

WAITING = 10
"""How many times the limit a call may take that does not work but waits."""

_TICKS = 4
"""Looks of the timer within the limit: a call is interrupted after 1 to 1.5 times the limit."""
_IMPORT = "<frozen importlib"


class CallTimeoutError(Exception):
    """A call took longer than its limit."""


class _Late(BaseException):
    """What interrupts a call: no `except Exception` of a labeling function holds it up."""


class Watch:
    """The patience with one function on one day of rows.

    Attributes:
        limit_s: Seconds of the processor that one call may take, in this thread; None for no limit.
        late: Calls that took longer so far.

    Example:
        >>> watch = Watch(limit_s=0.01)
        >>> with watch.set():
        ...     watch.call(lambda x: x + 1, 1)
        2
    """

    def __init__(self, limit_s: float | None = None, patience: int = PATIENCE) -> None:
        self.limit_s, self.patience = limit_s, patience
        self.late = 0
        self._inside = False
        self._calls = 0
        self._answers: list[Any] = []
        self._seen, self._ticks, self._worked = (0, 0), 0, 0.0
        self._timed = False

    @property
    def lost(self) -> bool:
        """Whether so many calls were late that no more should be made."""
        return self.late >= self.patience

    @contextmanager
    def set(self) -> Iterator[None]:
        """Let a timer look after the calls of this block; what another timer had set goes on."""
        if self.limit_s is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        handler = signal.signal(signal.SIGALRM, self._tick)
        begun = time.monotonic()
        every = self.limit_s / _TICKS
        left, interval = signal.setitimer(signal.ITIMER_REAL, every, every)
        self._timed = True
        try:
            yield
        finally:
            self._timed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if left:
                passed = time.monotonic() - begun
                signal.setitimer(signal.ITIMER_REAL, max(left - passed, 1e-3), interval)

    def call(self, function: Callable[..., Any], argument: Any, **more: Any) -> Any:
        """Return `function(argument, **more)`.

        Raises:
            CallTimeoutError: If it takes longer than the limit.
        """
        begun = (0.0, 0.0) if self._timed else (time.monotonic(), time.thread_time())
        self._calls += 1  # the timer looks whether it is still the same call
        try:
            try:
                self._inside = True
                answer = function(argument, **more)
            finally:
                self._inside = False
        except _Late:
            self._inside = False
            self.late += 1
            raise CallTimeoutError from None
        if not self._timed and self._is_late(time.monotonic() - begun[0], begun[1]):
            self.late += 1
            raise CallTimeoutError
        return answer

    def _is_late(self, passed: float, worked_before: float) -> bool:
        """Return whether a call that took `passed` seconds so far worked or waited too long."""
        if self.limit_s is None or passed <= self.limit_s:
            return False
        worked = time.thread_time() - worked_before
        return worked > self.limit_s or passed > WAITING * self.limit_s

    def each(
        self, function: Callable[..., Any], arguments: Iterable[Any], more: Mapping[str, Any]
    ) -> tuple[list[Any], dict[int, str]]:
        """Return `function(argument, **more)` of every argument, None where there is no answer.

        The second part tells why, by position: the type of the error, or that so many calls were
        late that the rest was not made. It is `call` for many, without its cost for each.
        """
        answers: list[Any] = []
        failing: dict[int, str] = {}
        number, left = -1, enumerate(arguments)
        asked = partial(function, **more) if more else function
        if self.limit_s is not None and not self._timed:
            asked = partial(self.call, function, **more)
        while not self.lost:
            try:
                self._answers, self._calls = answers, self._calls + 1
                try:
                    self._inside = self._timed
                    for number, argument in left:  # noqa: B007 - how far it came
                        answers.append(asked(argument))
                    return answers, failing
                finally:
                    self._inside = False
            except _Late:
                if len(answers) > number:
                    continue  # it answered in the very last moment
                failing[number] = CallTimeoutError.__name__
                self.late += 1
            except (Exception, SystemExit) as error:
                failing[number] = type(error).__name__
            answers.append(None)
        for number, _ in left:
            failing[number] = NOT_ASKED
            answers.append(None)
        return answers, failing

    def _tick(self, _signal: int, frame: FrameType | None) -> None:
        if not self._inside:
            return
        now = (self._calls, len(self._answers))
        if self._seen != now or _imports(frame):
            self._seen, self._ticks, self._worked = now, 0, time.thread_time()
            return
        self._ticks += 1
        if self.limit_s is not None and self._ticks >= _TICKS:
            every = self.limit_s / _TICKS
            # half a look of grace: what a timer counts is a little less than what it was set to
            if self._is_late((self._ticks + 0.5) * every, self._worked):
                raise _Late


def _imports(frame: FrameType | None) -> bool:
    """Return whether this call is inside of an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False
